// The C interface and the choice of an instruction set. Compiled for the baseline, for every CPU.
//
// Python has checked every size, stride and type. Functions return 0, or 1 if out of memory.
#include <float.h>
#include <stdlib.h>
#include <string.h>

#include "kernels.h"
#include "normaliser.h"

#if defined(__x86_64__)
#include <cpuid.h>
#endif

#define EXPORT extern "C" __attribute__((visibility("default")))

using namespace lpnested;

#if defined(__x86_64__)
extern const Kernels lpnested_kernels_avx2, lpnested_kernels_avx512;
static const Kernels* const compiled[] = {&lpnested_kernels_avx512, &lpnested_kernels_avx2};

static uint64_t saved_registers() {  // by the operating system: XCR0
    uint32_t low, high;
    __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return (uint64_t)high << 32 | low;
}

static bool runs(const Kernels* kernels) {
    uint32_t a, b, c, d;
    if (!__get_cpuid(1, &a, &b, &c, &d)) return false;
    const bool fma = c >> 12 & 1, xsave = c >> 27 & 1;
    if (!fma || !xsave || (saved_registers() & 6) != 6) return false;
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d)) return false;
    if (kernels == &lpnested_kernels_avx2) return b >> 5 & 1;
    const uint32_t needed = 1u << 16 | 1u << 17 | 1u << 30 | 1u << 31;  // F, DQ, BW, VL
    return (b & needed) == needed && (saved_registers() & 0xe0) == 0xe0;
}
#elif defined(__aarch64__)
extern const Kernels lpnested_kernels_neon;
static const Kernels* const compiled[] = {&lpnested_kernels_neon};

static bool runs(const Kernels*) { return true; }
#else
#error "no kernels for this machine"
#endif

static const Kernels* active = nullptr;

// Selects kernels by name, or the best for an empty name. Returns the name, or null.
EXPORT const char* lpnested_use(const char* name) {
    for (const Kernels* kernels : compiled)
        if ((!*name || !strcmp(name, kernels->name)) && runs(kernels)) {
            active = kernels;
            return kernels->name;
        }
    return nullptr;
}

// Returns the digest of the sources that the library was built from.
EXPORT const char* lpnested_source() { return SOURCE; }

// torch's `int torch_parallel_for(begin, end, grain, work, context)`, or null for one thread.
typedef int (*ParallelFor)(
    int64_t, int64_t, int64_t, void (*)(int64_t, int64_t, void*), void*);

template <class Function>
static void parallel(ParallelFor parallel_for, int64_t num, int64_t grain, Function& work) {
    if (!parallel_for || num <= grain) {
        if (num) work((int64_t)0, num);
        return;
    }
    const int status = parallel_for(
        0, num, grain,
        [](int64_t first, int64_t last, void* context) { (*(Function*)context)(first, last); },
        &work);
    if (status) work((int64_t)0, num);
}

static Tree tree_of(const int32_t* structure) {
    return {structure[0], structure[1], structure + 2, structure + 2 + structure[1] + 1};
}

static double number(bool is_double, const void* numbers, int64_t place) {
    return is_double ? ((const double*)numbers)[place] : ((const float*)numbers)[place];
}

// One parameter per batch row, in float or double.
struct Parameter {
    const void* data;
    int64_t stride;

    double at(bool is_double, int64_t b) const { return number(is_double, data, b * stride); }
};

// As packed by lpnested/ops/packing.py, 64 bits each. A null dim is that of the tree.
struct Arguments {
    ParallelFor parallel_for;
    const int32_t* structure;
    int64_t is_double, rows, batch;
    const void* value;
    int64_t sample_stride, batch_stride;
    const void* exponents;
    int64_t exponents_batch_stride, exponents_stride;
    Parameter dim, exponent, scale;

    double exponent_of_node(int64_t b, int64_t k) const {
        return number(is_double, exponents, b * exponents_batch_stride + k * exponents_stride);
    }
    Radius radius(const Tree& tree, int64_t b) const {
        const double of_space = dim.data ? dim.at(is_double, b) : tree.dim;
        return {of_space, exponent.at(is_double, b), scale.at(is_double, b)};
    }
    // Whether all batch rows have the same parameters, judging by the strides.
    bool shared() const {
        return !exponents_batch_stride && !dim.stride && !exponent.stride && !scale.stride;
    }
};

// Builds the kernels' table of parameters, followed by working memory; null if out of memory.
static double* parameter_table(const Arguments& given, const Tree& tree, bool norm) {
    const int64_t columns = tree.nodes + generator_size;
    const int64_t num = given.shared() ? 1 : given.batch;
    double* table = (double*)malloc((num * columns + tree.nodes) * sizeof(double));
    if (!table) return nullptr;
    double* sizes = table + num * columns;
    count_leaves(tree, sizes);
    auto fill = [&](int64_t first, int64_t last) {
        for (int64_t b = first; b < last; ++b) {
            double* mine = table + b * columns;
            for (int k = 0; k < tree.nodes; ++k) mine[k] = given.exponent_of_node(b, k);
            if (norm) continue;
            const Radius radius = given.radius(tree, b);
            int whole;
            const double fraction = frexp(radius.scale, &whole);
            const Generator generator = {
                log_constant(tree, sizes, mine, radius), radius.dim - tree.dim, radius.exponent,
                (double)whole, log2(fraction)};
            memcpy(mine + tree.nodes, &generator, sizeof generator);
        }
    };
    parallel(given.parallel_for, num, 256, fill);
    return table;
}

static int run(const Arguments& given, const Density& task) {
    const bool is_double = given.is_double;
    const size_t size = active->scratch(task.tree, is_double);
    const int64_t rows = 64, blocks = (task.rows + rows - 1) / rows;
    const int64_t numbers = 32768, grain = 1 + numbers / (rows * task.tree.dim);
    bool failed = false;
    auto work = [&](int64_t first, int64_t last) {
        char* memory = (char*)malloc(size);
        if (!memory) {
            __atomic_store_n(&failed, true, __ATOMIC_RELAXED);
            return;
        }
        const int64_t end = last * rows < task.rows ? last * rows : task.rows;
        active->density(task, is_double, first * rows, end, memory);
        free(memory);
    };
    parallel(given.parallel_for, blocks, grain, work);
    return failed;
}

static Density task_of(const Arguments& given, const Tree& tree, const double* table) {
    Density task = {};
    task.tree = tree;
    task.rows = given.rows;
    task.batch = given.batch;
    task.distinct = given.shared() ? 1 : given.batch;
    task.value = given.value;
    task.sample_stride = given.sample_stride;
    task.batch_stride = given.batch_stride;
    task.parameters = table;
    return task;
}

// The log density and, if requested, its derivatives: see struct Density.
EXPORT int lpnested_density(
    const Arguments* given, void* result, void* in_value, void* slopes) {
    const Tree tree = tree_of(given->structure);
    double* table = parameter_table(*given, tree, false);
    if (!table) return 1;
    Density task = task_of(*given, tree, table);
    task.result = result;
    task.in_value = in_value;
    task.slopes = slopes;
    const int status = run(*given, task);
    free(table);
    return status;
}

// log f, in double.
EXPORT int lpnested_norm(const Arguments* given, double* result) {
    const Tree tree = tree_of(given->structure);
    double* table = parameter_table(*given, tree, true);
    if (!table) return 1;
    Density task = task_of(*given, tree, table);
    task.norm = true;
    task.result = result;
    const int status = run(*given, task);
    free(table);
    return status;
}

static void store(bool is_double, void* to, int64_t place, double x) {
    const double largest = is_double ? DBL_MAX : FLT_MAX;
    x = x > largest ? largest : x < -largest ? -largest : x;  // preserves NaN
    if (is_double) ((double*)to)[place] = x;
    else ((float*)to)[place] = (float)x;
}

// Gradients of the density, from the in_value (rows, dim) and slopes of the forward pass, either of
// which may be null, and strided weights (rows). in_parameters is (batch, nodes + 3).
EXPORT int lpnested_density_backward(
    const Arguments* given, int64_t rows, const void* weights, int64_t weights_stride,
    const void* in_value, const void* slopes, void* result, void* in_parameters) {
    const Tree tree = tree_of(given->structure);
    const bool is_double = given->is_double;
    if (result) {
        auto work = [&](int64_t first, int64_t last) {
            active->scale(
                is_double, weights, weights_stride, in_value, tree.dim, first, last, result);
        };
        parallel(given->parallel_for, rows, 1 + 65536 / tree.dim, work);
    }
    if (!in_parameters) return 0;
    const int64_t columns = tree.nodes + 3, batch = given->batch, samples = rows / batch;
    double* sums = (double*)malloc(((batch + 1) * columns + 2 * tree.nodes) * sizeof(double));
    if (!sums) return 1;
    auto reduce = [&](int64_t first, int64_t last) {
        for (int64_t k = first; k < last; ++k) {
            const char* mine = (const char*)slopes + k * rows * (is_double ? 8 : 4);
            active->reduce(
                is_double, weights, weights_stride, mine, rows, batch, sums + k, columns);
        }
    };
    parallel(given->parallel_for, columns, 1 + 65536 / (rows + 1), reduce);
    double *sizes = sums + batch * columns, *exponents = sizes + tree.nodes;
    double* of_constant = exponents + tree.nodes;
    count_leaves(tree, sizes);
    for (int64_t b = 0; b < batch; ++b) {
        double* mine = sums + b * columns;
        double weight = 0;  // of the constant, over all rows that are not saturated
        for (int64_t s = 0; s < samples; ++s) {
            const int64_t row = s * batch + b;
            const double of_row = number(is_double, weights, row * weights_stride);
            if (number(is_double, slopes, (columns - 1) * rows + row) >= 0) weight += of_row;
            else mine[columns - 1] += of_row;  // undo its last term of -1
        }
        const Radius radius = given->radius(tree, b);
        if (!b || !given->shared()) {
            for (int k = 0; k < tree.nodes; ++k) exponents[k] = given->exponent_of_node(b, k);
            constant_slopes(tree, sizes, exponents, radius, of_constant, of_constant + tree.nodes);
        }
        mine[columns - 1] *= radius.exponent / radius.scale;
        for (int64_t k = 0; k < columns; ++k)
            store(is_double, in_parameters, b * columns + k, mine[k] + weight * of_constant[k]);
    }
    free(sums);
    return 0;
}

// Gradients of log f in the value (rows, dim) and in the exponents (batch, nodes), either of which
// may be null; slopes is working memory (nodes, rows) for the latter.
EXPORT int lpnested_norm_backward(
    const Arguments* given, const double* weights, void* in_value, void* slopes,
    void* in_exponents) {
    const Tree tree = tree_of(given->structure);
    const bool is_double = given->is_double;
    double* table = parameter_table(*given, tree, true);
    if (!table) return 1;
    Density task = task_of(*given, tree, table);
    task.norm = true;
    task.weights = weights;
    task.in_value = in_value;
    task.slopes = slopes;
    int status = run(*given, task);
    free(table);
    if (status || !in_exponents) return status;
    double* sums = (double*)malloc(given->batch * tree.nodes * sizeof(double));
    if (!sums) return 1;
    const double one = 1;
    const float one_too = 1;
    const void* ones = is_double ? (const void*)&one : (const void*)&one_too;
    for (int64_t k = 0; k < tree.nodes; ++k) {
        const char* mine = (const char*)slopes + k * given->rows * (is_double ? 8 : 4);
        active->reduce(
            is_double, ones, 0, mine, given->rows, given->batch, sums + k, tree.nodes);
    }
    for (int64_t i = 0; i < given->batch * tree.nodes; ++i)
        store(is_double, in_exponents, i, sums[i]);
    free(sums);
    return 0;
}

#include "draw_interface.h"
