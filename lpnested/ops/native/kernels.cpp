// Compiled once per instruction set, named TARGET, with vectors of BYTES bytes.
#include "density.h"
#include "kernels.h"

namespace {

template <class Real>
void density(const Density& task, int64_t first, int64_t last, char* memory) {
    Block<Real> rows(task, memory);
    for (int64_t start = first; start < last; start += block)
        rows.work(start, last - start < block ? (int)(last - start) : block);
}

void any_density(
    const Density& task, bool is_double, int64_t first, int64_t last, char* memory) {
    if (is_double) density<double>(task, first, last, memory);
    else density<float>(task, first, last, memory);
}

size_t scratch(const Tree& tree, bool is_double) {
    return is_double ? Block<double>::scratch(tree) : Block<float>::scratch(tree);
}

template <class Real>
void scale(
    const Real* weights, int64_t stride, const Real* gradient, int64_t dim, int64_t first,
    int64_t last, Real* result) {
    constexpr Real largest = Format<Real>::largest;
    for (int64_t r = first; r < last; ++r) {
        const Real weight = weights[r * stride];
        const Real* from = gradient + r * dim;
        Real* to = result + r * dim;
        for (int64_t i = 0; i < dim; ++i) {
            const Real x = weight * from[i];
            to[i] = x > largest ? largest : x < -largest ? -largest : x;
        }
    }
}

void any_scale(
    bool is_double, const void* weights, int64_t stride, const void* gradient, int64_t dim,
    int64_t first, int64_t last, void* result) {
    if (is_double)
        scale((const double*)weights, stride, (const double*)gradient, dim, first, last,
              (double*)result);
    else
        scale((const float*)weights, stride, (const float*)gradient, dim, first, last,
              (float*)result);
}

// The weighted sum of one row of slopes over one batch row, at multiples of `step`.
template <class Real>
double weighted_sum(
    const Real* weights, int64_t stride, const Real* slopes, int64_t step, int64_t num) {
    constexpr int parts = 16;
    double sums[parts] = {};
    int64_t i = 0;
    for (; i + parts <= num; i += parts)
        UNROLL for (int k = 0; k < parts; ++k)
            sums[k] += (double)weights[(i + k) * stride] * (double)slopes[(i + k) * step];
    for (; i < num; ++i) sums[0] += (double)weights[i * stride] * (double)slopes[i * step];
    double sum = 0;
    for (int k = 0; k < parts; ++k) sum += sums[k];
    return sum;
}

template <class Real>
void reduce(
    const Real* weights, int64_t stride, const Real* slopes, int64_t rows, int64_t batch,
    double* sums, int64_t sums_stride) {
    const int64_t samples = rows / batch;
    for (int64_t b = 0; b < batch; ++b) {
        const Real* of_batch = weights + b * stride;
        double& sum = sums[b * sums_stride];
        if (batch > 1) sum = weighted_sum(of_batch, batch * stride, slopes + b, batch, samples);
        else if (stride == 1) sum = weighted_sum(of_batch, 1, slopes, 1, samples);
        else sum = weighted_sum(of_batch, stride, slopes, 1, samples);
    }
}

void any_reduce(
    bool is_double, const void* weights, int64_t stride, const void* slopes, int64_t rows,
    int64_t batch, double* sums, int64_t sums_stride) {
    if (is_double)
        reduce((const double*)weights, stride, (const double*)slopes, rows, batch, sums,
               sums_stride);
    else
        reduce((const float*)weights, stride, (const float*)slopes, rows, batch, sums,
               sums_stride);
}

}  // namespace

#define JOINED(a, b) a##b
#define NAMED(a, b) JOINED(a, b)
#define QUOTED(a) #a
#define TEXT(a) QUOTED(a)

extern const lpnested::Sampler NAMED(lpnested_sampler_, TARGET);
extern const lpnested::Kernels NAMED(lpnested_kernels_, TARGET);
const lpnested::Kernels NAMED(lpnested_kernels_, TARGET) = {
    TEXT(TARGET), scratch, any_density, any_scale, any_reduce, &NAMED(lpnested_sampler_, TARGET)};
