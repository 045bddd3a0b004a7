// The arguments of the kernels: plain data, the same for every instruction set.
#pragma once

#include <cstddef>
#include <cstdint>

namespace lpnested {

// Inner nodes breadth first, root first. Children of node k are child[first[k]] to
// child[first[k + 1] - 1]: a leaf i is i, the inner node k is dim + k.
struct Tree {
    int32_t dim, nodes;
    const int32_t* first;
    const int32_t* child;
};

// The density generator constant + power log f - (f / scale)^exponent, stored after the exponents
// in a row of parameters; the scale is a log2 in two parts.
struct Generator {
    double constant, power, exponent, log2_scale, log2_scale_rest;
};
constexpr int generator_size = sizeof(Generator) / sizeof(double);

// Values of `rows` = samples x batch rows; row r has sample r / batch and batch row r % batch.
struct Density {
    Tree tree;
    int64_t rows, batch;
    int64_t distinct;  // the number of rows of parameters: batch, or 1 if shared
    const void* value;                      // its last dimension has stride 1
    int64_t sample_stride, batch_stride;    // in elements
    const double* parameters;               // (distinct, nodes + generator_size)
    bool norm;            // compute log f in double, instead of the density in the value's type
    const double* weights;  // incoming gradients of the norm, (rows)
    void* result;           // (rows), or null
    void* in_value;         // the gradient in the value, (rows, dim), or null
    // The derivatives in the exponents, in power and exponent of the generator, and its last term
    // (f / scale)^exponent, or -1 where the density is saturated, (nodes + 3, rows), or null. They
    // do not include the derivatives of the constant.
    void* slopes;
};

}  // namespace lpnested
