// The functions that are compiled for every instruction set.
#pragma once

#include "draw_task.h"
#include "structure.h"

namespace lpnested {

// `memory` has the size returned by `scratch`; rows from `first`, a multiple of 64, to `last`.
struct Kernels {
    const char* name;
    size_t (*scratch)(const Tree& tree, bool is_double);
    void (*density)(const Density& task, bool is_double, int64_t first, int64_t last, char* memory);
    // Multiplies each row of a gradient by its weight, with saturation.
    void (*scale)(
        bool is_double, const void* weights, int64_t stride, const void* gradient, int64_t dim,
        int64_t first, int64_t last, void* result);
    // Sums weight times slope over the samples of each batch row.
    void (*reduce)(
        bool is_double, const void* weights, int64_t stride, const void* slopes, int64_t rows,
        int64_t batch, double* sums, int64_t sums_stride);
    const Sampler* sampler;
};

}  // namespace lpnested
