// Exact draws over a tree (Sinz & Bethge 2010, Algorithm 1).
//
// With independent gamma variables G_c of shape n_c / p_I for the children c of each node I,
//
//     log |x_i| = log r + sum over the path to i of (log G_c - log sum_c G_c) / p_I
//
// The radius r is another gamma variable to the power 1 / p, or given.
#pragma once

#include "gamma.h"

namespace {

using lpnested::NestedDraw;
using lpnested::Tree;

// Rows in blocks; base-2 logarithms are propagated down the tree.
template <class Real>
class NestedBlock {
    using L = Lanes<Real>;
    using Form = Format<Real>;
    using Vector = typename L::Vector;
    using R = Random<Real>;
    using Words = typename R::Words;
    static constexpr double beyond = 1 << 20;  // 2 to this power exceeds every type

    const NestedDraw& task;
    const Tree& tree;
    const int rows;
    GammaBlock<Real> gammas;  // at the place of each child; at the root for the radius
    int32_t* sizes;           // of each place, the number of leaves under it
    bool* alone;              // of each place, whether it has no siblings
    // (places, rows), for the edge to a place: log2 of the depth of its gamma variable, and of G.
    Real *log2_depth, *log2_g;
    Real *exponents, *reciprocals;  // (nodes, rows)
    Real* fraction;                 // (nodes, rows), log2 of the radius of a node, less `whole`
    Real* whole;                    // (rows), an integer
    Real* values;                   // (dim, rows)
    // (rows): gamma shapes of the radius, its constant, and the factors of log2 v and log2 U.
    double *gamma_shapes, *constant, *by_v, *by_u;
    bool* invalid;                  // (rows)
    int64_t filled_from = -1;

public:
    static int64_t scratch(const NestedDraw& task) {
        const Tree& tree = task.tree;
        const int64_t places = (int64_t)tree.dim + tree.nodes, rows = block_of(task);
        const int64_t reals = (2 * places + 3 * (int64_t)tree.nodes + 1 + tree.dim) * rows;
        return GammaBlock<Real>::scratch(places * rows) + reals * sizeof(Real)
            + 4 * rows * sizeof(double) + places * (sizeof(int32_t) + 1) + rows + 14 * 64;
    }

    NestedBlock(const NestedDraw& task, char* memory)
        : task(task), tree(task.tree), rows((int)block_of(task)),
          gammas((int64_t)tree.dim + tree.nodes, rows, task.seed, memory) {
        const int64_t places = (int64_t)tree.dim + tree.nodes;
        log2_depth = taken<Real>(memory, places * rows);
        log2_g = taken<Real>(memory, places * rows);
        exponents = taken<Real>(memory, tree.nodes * rows);
        reciprocals = taken<Real>(memory, tree.nodes * rows);
        fraction = taken<Real>(memory, tree.nodes * rows);
        whole = taken<Real>(memory, rows);
        values = taken<Real>(memory, tree.dim * rows);
        gamma_shapes = taken<double>(memory, rows);
        constant = taken<double>(memory, rows);
        by_v = taken<double>(memory, rows);
        by_u = taken<double>(memory, rows);
        sizes = taken<int32_t>(memory, places);
        alone = taken<bool>(memory, places);
        invalid = taken<bool>(memory, rows);
        measure();
    }

    // Draws `num` rows from row `start`, a multiple of the block size.
    void work(int64_t start, int num) {
        fill_parameters(start);
        draw_gammas(start);
        draw_radius(start, num);
        for (int k = 0; k < tree.nodes; ++k) share_out(k);
        store(start, num);
    }

private:
    void measure() {
        for (int i = 0; i < tree.dim; ++i) sizes[i] = 1;
        alone[tree.dim] = false;
        for (int k = tree.nodes - 1; k >= 0; --k) {
            const int32_t first = tree.first[k], last = tree.first[k + 1];
            int32_t size = 0;
            for (int32_t c = first; c < last; ++c) {
                size += sizes[tree.child[c]];
                alone[tree.child[c]] = last - first == 1;
            }
            sizes[tree.dim + k] = size;
        }
    }

    // Interleaves the parameters of the rows. Blocks with the same parameters reuse them.
    void fill_parameters(int64_t start) {
        const int64_t from = start % task.batch;
        if (from == filled_from) return;
        filled_from = from;
        int64_t b = from;
        for (int r = 0; r < rows; ++r) {
            invalid[r] = false;
            for (int k = 0; k < tree.nodes; ++k) {
                const double p = task.exponents.at(b, k);
                invalid[r] |= !(p > 0 && p <= Form::largest);
                exponents[(int64_t)k * rows + r] = (Real)p;
                reciprocals[(int64_t)k * rows + r] = (Real)(1 / p);
            }
            if (task.gamma_radius) fill_radius(r, b);
            if (++b == task.batch) b = 0;
        }
        for (int k = 0; k < tree.nodes; ++k)
            for (int32_t c = tree.first[k]; c < tree.first[k + 1]; ++c)
                if (!alone[tree.child[c]]) fill_edge(k, tree.child[c]);
        if (task.gamma_radius) fill_root();
    }

    void fill_edge(int k, int32_t child) {
        for (int r = 0; r < rows; r += L::width) {
            const int64_t cell = (int64_t)child * rows + r;
            const Vector shape = (Real)sizes[child] * L::load(reciprocals + (int64_t)k * rows + r);
            const Vector d = gammas.set_shape(cell, shape + Real(1));
            L::store(log2_depth + cell, log2_of<L>(d).sum());
        }
    }

    // log2 r = log2 scale + (log2 d + log2 v) / p + log2 U / n. The constant is in double, since
    // rounding log2 d / p would shift all draws.
    void fill_radius(int r, int64_t b) {
        const double n = task.dim.at(b), p = task.exponent.at(b), scale = task.scale.at(b);
        const double sum = n + p + scale + n / p;
        invalid[r] |= !(n > 0 && p > 0 && scale > 0 && sum - sum == 0);
        gamma_shapes[r] = n / p;
        constant[r] = __builtin_log2(scale);
        by_v[r] = 1 / p;
        by_u[r] = 1 / n;
    }

    void fill_root() {
        using D = Lanes<double>;
        for (int r = 0; r < rows; r += D::width) {
            const auto d = D::load(gamma_shapes + r) + 2.0 / 3;
            const auto log2_d = log2_of<D>(d).sum() * D::load(by_v + r);
            D::store(constant + r, D::load(constant + r) + log2_d);
        }
        for (int r = 0; r < rows; r += L::width) {
            Vector shape;
            for (int lane = 0; lane < L::width; ++lane) shape[lane] = (Real)gamma_shapes[r + lane];
            gammas.set_shape((int64_t)tree.dim * rows + r, shape + Real(1));
        }
    }

    void draw_gammas(int64_t start) {
        for (int32_t place = 0; place < tree.dim + tree.nodes; ++place) {
            const bool leaf = place < tree.dim;
            const bool needed = place == tree.dim ? task.gamma_radius : !alone[place];
            if (needed) gammas.first_attempts(start, place);
            else if (leaf) gammas.words(start, place);  // for the sign
        }
        gammas.further_attempts(start);
    }

    // log2 of the radius, as an integer and a fraction.
    void draw_radius(int64_t start, int num) {
        const int64_t root = (int64_t)tree.dim * rows;
        for (int r = 0; task.gamma_radius && r < rows; r += L::width) {
            L::store(whole + r, gammas.log2_v(root + r));
            L::store(fraction + r, R::log2_fine_uniform(gammas.word(root + r)));
        }
        for (int r = 0; r < rows; ++r) {
            double log2_radius = 0;
            if (task.gamma_radius)
                log2_radius = constant[r] + by_v[r] * (double)whole[r]
                    + by_u[r] * (double)fraction[r];
            else if (task.log_radius && r < num)
                log2_radius = task.log_radius[start + r] / ln2;
            log2_radius = log2_radius < -beyond ? -beyond : log2_radius;
            log2_radius = log2_radius > beyond ? beyond : log2_radius;
            const double rounded = __builtin_rint(log2_radius);
            whole[r] = (Real)rounded;
            fraction[r] = (Real)(log2_radius - rounded);
        }
    }

    // Splits a node's radius among its children.
    void share_out(int k) {
        const int32_t* first = tree.child + tree.first[k];
        const int32_t* last = tree.child + tree.first[k + 1];
        for (int r = 0; r < rows; r += L::width) {
            const Vector of_node = L::load(fraction + (int64_t)k * rows + r);
            if (last - first == 1) {
                put(*first, r, of_node);
                continue;
            }
            const Vector p = L::load(exponents + (int64_t)k * rows + r);
            Vector largest = L::all(-Form::largest);
            for (const int32_t* c = first; c < last; ++c) {
                const int64_t cell = (int64_t)*c * rows + r;
                const Vector log2_u = R::log2_fine_uniform(gammas.word(cell));
                const Vector g = L::load(log2_depth + cell) + gammas.log2_v(cell)
                    + log2_u * (p * (1 / (Real)sizes[*c]));
                L::store(log2_g + cell, g);
                largest = L::max(largest, g);
            }
            Vector total = {};
            for (const int32_t* c = first; c < last; ++c)
                total += exp2_of<L>(L::load(log2_g + (int64_t)*c * rows + r) - largest);
            const Vector log2_total = log2_of<L>(total).sum();
            const Vector reciprocal = L::load(reciprocals + (int64_t)k * rows + r);
            for (const int32_t* c = first; c < last; ++c) {
                const Vector share = L::load(log2_g + (int64_t)*c * rows + r) - largest;
                put(*c, r, of_node + (share - log2_total) * reciprocal);
            }
        }
    }

    // Stores a child's logarithm, without `whole`; for a leaf its value, with a random sign.
    void put(int32_t child, int r, Vector log2) {
        if (child >= tree.dim) {
            L::store(fraction + (int64_t)(child - tree.dim) * rows + r, log2);
            return;
        }
        const int64_t cell = (int64_t)child * rows + r;
        log2 = L::clamp(log2, Real(-beyond), Real(beyond));
        const Vector steps = L::round(log2);
        const Vector mantissa = L::exp2_fraction(log2 - steps);
        const Vector size = scaled<L>(mantissa, steps + L::load(whole + r));
        const Words sign = gammas.word(cell) << (R::size - 1);
        L::store(values + cell, (Vector)((Words)L::min(size, L::all(Form::largest)) | sign));
    }

    void store(int64_t start, int num) {
        Real* out = (Real*)task.result + start * tree.dim;
        for (int i = 0; i < tree.dim; i += 64) {
            const int columns = tree.dim - i < 64 ? tree.dim - i : 64;
            const Real* from[64];
            for (int c = 0; c < columns; ++c) from[c] = values + (int64_t)(i + c) * rows;
            transpose<Real>(from, columns, num, out + i, tree.dim);
        }
        for (int r = 0; r < num; ++r) {
            const double log = task.log_radius ? task.log_radius[start + r] : 0;
            if (!invalid[r] && log == log) continue;
            for (int i = 0; i < tree.dim; ++i) out[(int64_t)r * tree.dim + i] = __builtin_nan("");
        }
    }
};

}  // namespace
