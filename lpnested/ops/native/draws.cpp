// Compiled once per instruction set, named TARGET. Vectors fill one register only, since the state
// of the generator occupies all registers.
#include <stdlib.h>

#undef BYTES
#if defined(__AVX512F__)
#define BYTES 64
#elif defined(__AVX2__)
#define BYTES 32
#else
#define BYTES 16
#endif
#include "draw.h"

namespace {

template <class Block, class Task>
bool draw(const Task& task, int64_t first, int64_t last) {
    char* memory = (char*)malloc(Block::scratch(task));
    if (!memory) return false;
    Block block(task, memory);
    const int64_t rows = block_of(task);
    for (int64_t start = first * rows; start < last * rows; start += rows)
        block.work(start, task.rows - start < rows ? (int)(task.rows - start) : (int)rows);
    free(memory);
    return true;
}

bool nested(const NestedDraw& task, int64_t first, int64_t last) {
    if (task.is_double) return draw<NestedBlock<double>>(task, first, last);
    return draw<NestedBlock<float>>(task, first, last);
}

bool log_gamma(const GammaDraw& task, int64_t first, int64_t last) {
    if (task.is_double) return draw<LogGammaBlock<double>>(task, first, last);
    return draw<LogGammaBlock<float>>(task, first, last);
}

}  // namespace

#define JOINED(a, b) a##b
#define NAMED(a, b) JOINED(a, b)

extern const lpnested::Sampler NAMED(lpnested_sampler_, TARGET);
const lpnested::Sampler NAMED(lpnested_sampler_, TARGET) = {nested, log_gamma};
