// The logarithm of the constant of a density over a tree, and its derivatives, in double.
//
//     log q - lgamma(n / q) - n log s - log S
//     log S = d log 2 + sum_I [-(l_I - 1) log p_I + sum_c lgamma(n_c / p_I) - lgamma(n_I / p_I)]
//
// with dimension n, exponent q and scale s of the radius, and the dimension d of the tree.
#pragma once

#include <math.h>

#include "structure.h"

namespace lpnested {

// The parameters of the radius.
struct Radius {
    double dim, exponent, scale;
};

// For x > 0, by the recurrence and, from 10, the asymptotic series.
inline double digamma(double x) {
    if (!(x > 0)) return x == 0 ? -INFINITY : NAN;
    double before = 0;
    for (; x < 10; x += 1) before -= 1 / x;
    const double y = 1 / (x * x);
    const double series =
        y * (1. / 12 - y * (1. / 120 - y * (1. / 252 - y * (1. / 240 - y * (1. / 132
        - y * (691. / 32760 - y / 12))))));
    return before + log(x) - 0.5 / x - series;
}

inline double log_gamma(double x) {
    int sign;  // lgamma itself writes a global variable
    return lgamma_r(x, &sign);
}

// Counts the leaves under each inner node.
inline void count_leaves(const Tree& tree, double* sizes) {
    for (int k = tree.nodes - 1; k >= 0; --k) {
        sizes[k] = 0;
        for (int c = tree.first[k]; c < tree.first[k + 1]; ++c)
            sizes[k] += tree.child[c] < tree.dim ? 1 : sizes[tree.child[c] - tree.dim];
    }
}

// Calls f(size, count) for each run of equal sizes among the children of node k.
template <class Function>
void for_child_sizes(const Tree& tree, const double* sizes, int k, Function f) {
    double size = 0, count = 0;
    for (int c = tree.first[k]; c < tree.first[k + 1]; ++c) {
        const double mine = tree.child[c] < tree.dim ? 1 : sizes[tree.child[c] - tree.dim];
        if (mine != size) {
            if (count) f(size, count);
            size = mine;
            count = 0;
        }
        ++count;
    }
    f(size, count);
}

inline double log_constant(
    const Tree& tree, const double* sizes, const double* exponents, const Radius& radius) {
    double area = tree.dim * M_LN2;
    for (int k = 0; k < tree.nodes; ++k) {
        const double p = exponents[k];
        const int children = tree.first[k + 1] - tree.first[k];
        if (children == 1) continue;
        area -= (children - 1) * log(p) + log_gamma(sizes[k] / p);
        for_child_sizes(tree, sizes, k, [&](double size, double count) {
            area += count * log_gamma(size / p);
        });
    }
    const double q = radius.exponent;
    return log(q) - log_gamma(radius.dim / q) - radius.dim * log(radius.scale) - area;
}

// The derivatives of the constant in the exponents, and in dimension, exponent and scale of the
// radius.
inline void constant_slopes(
    const Tree& tree, const double* sizes, const double* exponents, const Radius& radius,
    double* in_exponents, double* in_radius) {
    for (int k = 0; k < tree.nodes; ++k) {
        const double p = exponents[k];
        const int children = tree.first[k + 1] - tree.first[k];
        in_exponents[k] = 0;
        if (children == 1) continue;
        double slope = (children - 1) / p - sizes[k] / p * (digamma(sizes[k] / p) / p);
        for_child_sizes(tree, sizes, k, [&](double size, double count) {
            slope += count * (size / p) * (digamma(size / p) / p);
        });
        in_exponents[k] = slope;
    }
    const double n = radius.dim, q = radius.exponent, of_shape = digamma(n / q);
    in_radius[0] = -of_shape / q - log(radius.scale);
    in_radius[1] = 1 / q + n / q * (of_shape / q);
    in_radius[2] = -n / radius.scale;
}

}  // namespace lpnested
