// Compiled once for each instruction set, with TARGET its name, for vectors of one register: the
// state of the generator takes all of them.
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
bool work(const Task& task, int64_t size, int64_t rows, int64_t first, int64_t last) {
    char* memory = (char*)malloc(size);
    if (!memory) return false;
    Block block(task, memory);
    for (int64_t start = first * rows; start < last * rows; start += rows)
        block.work(start, task.rows - start < rows ? (int)(task.rows - start) : (int)rows);
    free(memory);
    return true;
}

template <class Real>
bool nested(const NestedDraw& task, int64_t first, int64_t last) {
    const int64_t rows = rows_together((int64_t)task.tree.dim + task.tree.nodes);
    return work<NestedBlock<Real>>(task, NestedBlock<Real>::scratch(task.tree), rows, first, last);
}

template <class Real>
bool log_gamma(const GammaDraw& task, int64_t first, int64_t last) {
    using Block = LogGammaBlock<Real>;
    return work<Block>(task, Block::scratch(), rows_together(1), first, last);
}

bool any_nested(const NestedDraw& task, int64_t first, int64_t last) {
    return task.is_double ? nested<double>(task, first, last) : nested<float>(task, first, last);
}

bool any_log_gamma(const GammaDraw& task, int64_t first, int64_t last) {
    if (task.is_double) return log_gamma<double>(task, first, last);
    return log_gamma<float>(task, first, last);
}

}  // namespace

#define JOINED(a, b) a##b
#define NAMED(a, b) JOINED(a, b)

extern const lpnested::Sampler NAMED(lpnested_sampler_, TARGET);
const lpnested::Sampler NAMED(lpnested_sampler_, TARGET) = {any_nested, any_log_gamma};
