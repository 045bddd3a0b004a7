// What the C interface hands to the kernels. Plain data, the same for every instruction set.
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

// After the exponents of a row of parameters: the density generator
// constant + power log f - (f / scale)^exponent, its scale as log2 in two parts.
struct Generator {
    double constant, power, exponent, log2_scale, log2_scale_rest;
};
constexpr int generator_size = sizeof(Generator) / sizeof(double);

// Values of `rows` = samples x batch rows; row r has sample r / batch and batch row r % batch.
struct Density {
    Tree tree;
    int64_t rows, batch;
    int64_t distinct;  // rows of parameters: batch, or 1 for all
    const void* value;                      // its last dimension has stride 1
    int64_t sample_stride, batch_stride;    // in numbers
    const double* parameters;               // (distinct, nodes + generator_size)
    bool norm;            // log f itself in double, in place of the density in the value's type
    const double* weights;  // with which the norm's gradients are multiplied, (rows)
    void* result;           // (rows), or null
    void* in_value;         // the gradient in the value, (rows, dim), or null
    // The derivatives in the exponents, in power and exponent of the generator, and its last term
    // (f / scale)^exponent, or -1 where the density has its lowest value, (nodes + 3, rows), or
    // null. The derivatives of the constant are apart.
    void* slopes;
};

}  // namespace lpnested
