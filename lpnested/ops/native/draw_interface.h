// The C interface of the sampler, included by interface.cpp.
#pragma once

#include "draw_task.h"

// The number of blocks that are worth a thread.
static int64_t blocks_together(int64_t numbers) { return 1 + 16384 / numbers; }

// Parameters are float or double, each with its strides: exponents (batch, nodes); exponent, scale
// and dimension (batch) of a generalized gamma radius, where a null dimension is that of the tree.
// If the exponent is null, the radius is given by log_radius (rows), or 1 if that is null too.
// The seed is passed by address, as it is stored in a tensor.
EXPORT int lpnested_draw_nested(
    ParallelFor parallel_for, const int32_t* structure, int64_t rows, int64_t batch,
    int64_t given_double, const void* exponents, int64_t exponents_batch, int64_t exponents_node,
    const void* dim, int64_t dim_batch, const void* exponent, int64_t exponent_batch,
    const void* scale, int64_t scale_batch, const double* log_radius, const int64_t* seed,
    int64_t is_double, void* result) {
    const bool given = given_double != 0;
    const Tree tree = tree_of(structure);
    const NestedDraw task = {
        tree, rows, batch, {given, exponents, exponents_batch, exponents_node, 0},
        exponent != nullptr, {given, dim, dim_batch, 0, (double)tree.dim},
        {given, exponent, exponent_batch, 0, 0}, {given, scale, scale_batch, 0, 0},
        log_radius, (uint64_t)*seed, is_double != 0, result};
    const int64_t size = block_of(task), blocks = (rows + size - 1) / size;
    bool failed = false;
    auto work = [&](int64_t first, int64_t last) {
        if (!active->sampler->nested(task, first, last))
            __atomic_store_n(&failed, true, __ATOMIC_RELAXED);
    };
    parallel(parallel_for, blocks, blocks_together(size * (tree.dim + (int64_t)tree.nodes)), work);
    return failed;
}

// Logarithms of gamma variables, (rows): row r has the shape of place r % batch.
EXPORT int lpnested_draw_log_gamma(
    ParallelFor parallel_for, int64_t rows, int64_t batch, const double* shape,
    const int64_t* seed, int64_t is_double, double* result) {
    const GammaDraw task = {rows, batch, shape, (uint64_t)*seed, is_double != 0, result};
    const int64_t size = block_of(task), blocks = (rows + size - 1) / size;
    bool failed = false;
    auto work = [&](int64_t first, int64_t last) {
        if (!active->sampler->log_gamma(task, first, last))
            __atomic_store_n(&failed, true, __ATOMIC_RELAXED);
    };
    parallel(parallel_for, blocks, blocks_together(size), work);
    return failed;
}
