// The arguments of the sampler: plain data, the same for every instruction set.
#pragma once

#include "structure.h"

namespace lpnested {

// A tensor of numbers, (batch) or (batch, nodes), float or double; or one number.
struct Numbers {
    bool is_double;
    const void* data;
    int64_t batch_stride, stride;
    double number;

    inline __attribute__((always_inline)) double at(int64_t b, int64_t k = 0) const {
        const int64_t place = b * batch_stride + k * stride;
        if (!data) return number;
        return is_double ? ((const double*)data)[place] : (double)((const float*)data)[place];
    }
};

// Draws over a tree. Row r has sample r / batch and the parameters of row r % batch.
struct NestedDraw {
    Tree tree;
    int64_t rows, batch;
    Numbers exponents;
    bool gamma_radius;                // whether the radius is generalized gamma, with parameters
    Numbers dim, exponent, scale;
    const double* log_radius;         // otherwise (rows), or null for the unit sphere
    uint64_t seed;
    bool is_double;
    void* result;                     // (rows, dim)
};

// Logarithms of gamma variables. Row r has the shape of place r % batch.
struct GammaDraw {
    int64_t rows, batch;
    const double* shape;  // (batch)
    uint64_t seed;
    bool is_double;  // the precision of the random numbers
    double* result;  // (rows)
};

// The number of rows per block: a power of two, at most twice the number requested, small enough
// to fit a cache, but at least the number of lanes of the widest vector.
static inline int64_t block_of(int64_t places, int64_t asked) {
    int64_t rows = 512;
    while (rows > 16 && (rows * places > 2048 || rows >= 2 * asked)) rows /= 2;
    return rows;
}
static inline int64_t block_of(const NestedDraw& task) {
    return block_of((int64_t)task.tree.dim + task.tree.nodes, task.rows);
}
static inline int64_t block_of(const GammaDraw& task) { return block_of(1, task.rows); }

// Compiled for every instruction set: blocks `first` to `last`. Returns false if out of memory.
struct Sampler {
    bool (*nested)(const NestedDraw& task, int64_t first, int64_t last);
    bool (*log_gamma)(const GammaDraw& task, int64_t first, int64_t last);
};

}  // namespace lpnested
