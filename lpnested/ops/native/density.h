// The log density over a tree: rows in blocks, logarithms split in two parts, and the gradient
// computed together with the value.
//
// log2 |x| is propagated up the tree as an integer and a fraction, so that p log2 |x| loses no
// digits at any scale. With the share s_c = (f_c / f_I)^p_I of a child in its node and the product
// w of the shares on the path from the root,
//
//     d log f / d x_i = w_i / x_i
//     d log f / d p_I = w_I / p_I^2 sum_c s_c log s_c
//
// Shares are propagated down as base-2 logarithms, so that a gradient is computed whenever it is
// representable, regardless of its factors.
#pragma once

#include "structure.h"
#include "vector.h"

namespace {

using lpnested::Density;
using lpnested::generator_size;
using lpnested::Tree;

constexpr int block = 64;  // rows
constexpr double ln2 = 0.69314718055994530942;
// Above it the log density saturates at its lowest value. In double it leaves headroom below the
// largest number, so that gradients are finite too, as in lpnested.precision.exp.
template <class Real>
constexpr double log2_largest_power = sizeof(Real) == 4 ? 128.0 : 865.617024533378;

template <class Real>
class Block {
    using L = Lanes<Real>;
    using Vector = typename L::Vector;
    using Bits = typename L::Bits;
    using Form = Format<Real>;
    using Log = Log2<L>;
    static constexpr int width = L::width;

    const Density& task;
    const Tree& tree;
    // Arrays (.., block): for leaves and then nodes, the logarithms of f and of the share w; for
    // nodes, the exponents, their reciprocals and the derivatives of log2 f in them; the generator.
    Real *whole, *fraction, *share, *exponents, *reciprocals, *inner_slopes, *values;
    Real *generator, *factor, *factor_power;
    const Real* row[block];
    int64_t filled_from = -1;
    bool invalid[block];

    // Takes the next section of scratch memory and advances the pointer.
    INLINE Real* part(char*& memory, int64_t rows) {
        Real* start = (Real*)memory;
        memory += rows * block * sizeof(Real);
        return start;
    }

public:
    static size_t scratch(const Tree& tree) {
        const int64_t places = (int64_t)tree.dim + tree.nodes;
        const int64_t rows = 3 * places + 3 * (int64_t)tree.nodes + tree.dim + generator_size + 2;
        return rows * block * sizeof(Real) + 64;
    }

    Block(const Density& task, char* memory) : task(task), tree(task.tree) {
        memory = (char*)(((uintptr_t)memory + 63) & ~(uintptr_t)63);
        const int64_t places = (int64_t)tree.dim + tree.nodes;
        whole = part(memory, places);
        fraction = part(memory, places);
        share = part(memory, places);
        exponents = part(memory, tree.nodes);
        reciprocals = part(memory, tree.nodes);
        inner_slopes = part(memory, tree.nodes);
        values = part(memory, tree.dim);
        generator = part(memory, generator_size);
        factor = part(memory, 1);
        factor_power = part(memory, 1);
    }

    // Rows from `start`, up to `block` of them.
    void work(int64_t start, int num) {
        fill_parameters(start);
        const bool special = take(start, num);
        if (task.slopes) up<true>(); else up<false>();
        const bool gradient = task.in_value || task.slopes;
        if (task.norm) norm_at_root(start, num); else density_at_root(start, num, gradient);
        if (gradient) {
            down(start, num);
            if (task.in_value) store_gradient(start, num);
        }
        if (special) mend(start, num);
    }

private:
    INLINE Real saturated(Real x) {
        return x > Form::largest ? Form::largest : x < -Form::largest ? -Form::largest : x;
    }

    inline __attribute__((always_inline)) Log at(int64_t place) const {
        return Log::load(whole + place, fraction + place);
    }
    inline __attribute__((always_inline)) void put(int64_t place, Log x) {
        L::store(whole + place, x.whole);
        L::store(fraction + place, x.fraction);
    }

    // Interleaves the parameters of the rows. Blocks with the same parameters reuse them.
    void fill_parameters(int64_t start) {
        const int64_t distinct = task.distinct, columns = tree.nodes + generator_size;
        const int64_t from = start % distinct;
        if (from == filled_from) return;
        filled_from = from;
        int64_t b = from;
        for (int r = 0; r < block; ++r) {
            const double* mine = task.parameters + b * columns;
            invalid[r] = false;
            for (int k = 0; k < tree.nodes; ++k) {
                invalid[r] |= !(mine[k] <= Form::largest && 1 / mine[k] <= Form::largest);
                invalid[r] |= !(mine[k] > 0);
                exponents[k * block + r] = (Real)mine[k];
                reciprocals[k * block + r] = (Real)(1 / mine[k]);
            }
            if (!task.norm)
                for (int k = 0; k < generator_size; ++k) {
                    const double x = mine[tree.nodes + k];
                    invalid[r] |= !(x - x == 0);
                    generator[k * block + r] = (Real)x;
                }
            if (++b == distinct) b = 0;
        }
    }

    // Takes logarithms of the values. Returns whether a value or a parameter needs special care.
    bool take(int64_t start, int num) {
        int64_t sample = start / task.batch, b = start % task.batch;
        bool special = false;
        for (int r = 0; r < num; ++r) {
            row[r] = (const Real*)task.value + sample * task.sample_stride + b * task.batch_stride;
            special |= invalid[r];
            if (++b == task.batch) b = 0, ++sample;
        }
        for (int i = 0; num < block && i < tree.dim; ++i)
            for (int r = num; r < block; ++r) values[i * block + r] = 1;
        transpose<Real>(row, num, tree.dim, values, block);
        Bits beyond = {}, subnormal = {};
        for (int64_t j = 0; j < (int64_t)tree.dim * block; j += width) {
            const Vector x = L::magnitude(L::load(values + j));
            const Bits zero = x < Form::smallest;
            beyond |= ~(x <= Form::largest);
            subnormal |= zero & (Bits)x;
            Log log = log2_of<L>(zero ? L::all(1) : x);
            log.whole = zero ? L::all(Form::zero) : log.whole;
            put(j, log);
        }
        if (L::any(subnormal)) take_subnormal();
        return special || L::any(beyond);
    }

    void take_subnormal() {
        constexpr Real power = Real((int64_t)1 << Form::lift);
        for (int64_t j = 0; j < (int64_t)tree.dim * block; j += width) {
            const Vector x = L::magnitude(L::load(values + j));
            const Bits small = (x < Form::smallest) & (x > Real(0));
            if (!L::any(small)) continue;
            Log lifted = log2_of<L>(small ? x * power : L::all(1));
            const Log as_taken = at(j);
            lifted.whole = small ? lifted.whole - Real(Form::lift) : as_taken.whole;
            lifted.fraction = small ? lifted.fraction : as_taken.fraction;
            put(j, lifted);
        }
    }

    // Upward pass: log2 f of every node, and its derivative in the node's exponent, times p^2.
    template <bool slopes>
    void up() {
        for (int k = tree.nodes - 1; k >= 0; --k) {
            const int32_t* first = tree.child + tree.first[k];
            const int32_t* last = tree.child + tree.first[k + 1];
            const int64_t node = (int64_t)(tree.dim + k) * block, own = (int64_t)k * block;
            for (int r = 0; r < block; r += width) {
                Log largest = at((int64_t)*first * block + r);
                if (last - first == 1) {
                    put(node + r, largest);
                    if (slopes) L::store(inner_slopes + own + r, Vector{});
                    continue;
                }
                for (const int32_t* c = first + 1; c < last; ++c) {
                    const Log x = at((int64_t)*c * block + r);
                    const Bits greater = (x - largest).sum() > Real(0);
                    largest.whole = greater ? x.whole : largest.whole;
                    largest.fraction = greater ? x.fraction : largest.fraction;
                }
                const Vector p = L::load(exponents + own + r);
                Vector total = {}, lost = {}, mean = {};
                for (const int32_t* c = first; c < last; ++c) {
                    const Log x = at((int64_t)*c * block + r) - largest;
                    Vector log_power;
                    const Vector power = ratio_power(p, x, log_power);
                    if constexpr (slopes) {  // compensated, as rounding matters near 1
                        const Vector sum = total + power, added = sum - total;
                        lost += (total - (sum - added)) + (power - added);
                        total = sum;
                        mean += power * L::max(log_power, L::all(-2 * Form::bias));
                    } else {
                        total += power;
                    }
                }
                const Log log_total = log2_of<L>(total);
                if constexpr (slopes) {
                    const Vector log_lost = lost / total * Real(1 / ln2);
                    L::store(inner_slopes + own + r, mean / total - (log_total.sum() + log_lost));
                }
                const Vector reciprocal = L::load(reciprocals + own + r);
                const Vector steps = L::round(log_total.sum() * reciprocal);
                const Vector rest = L::fma(-steps, p, log_total.whole) + log_total.fraction;
                const Vector fraction_ = largest.fraction + rest * reciprocal;
                const Vector carried = L::round(fraction_);
                put(node + r, {largest.whole + steps + carried, fraction_ - carried});
            }
        }
    }

    // (x / largest)^p and its log2, for x up to about largest.
    INLINE Vector ratio_power(Vector p, Log x, Vector& log_power) {
        const Vector small = p * x.fraction;
        log_power = p * x.whole + small;
        const Vector whole_ = L::round(log_power);
        const Vector rest = L::fma(p, x.whole, -whole_) + small;
        const Vector power = L::exp2_fraction(rest) * L::power_of_two(whole_);
        return log_power > Real(-Form::bias) ? power : Vector{};  // underflow
    }

    // log f in double; the gradient's factor is the weight of the row.
    void norm_at_root(int64_t start, int num) {
        const Real* root = whole + (int64_t)tree.dim * block;
        const Real* rest = fraction + (int64_t)tree.dim * block;
        double* result = (double*)task.result;
        for (int r = 0; r < num; ++r) {
            double log2 = (double)root[r] + (double)rest[r];
            const bool inside = log2 >= -1022 && log2 <= 1024;
            log2 = log2 < -1022 ? -1022 : log2 > 1024 ? 1024 : log2;
            if (result) result[start + r] = log2 * ln2;
            if (!task.weights) continue;
            double weight = inside ? task.weights[start + r] : 0;
            int exponent = 0;
            weight = weight - weight == 0 ? __builtin_frexp(weight, &exponent) : weight;
            factor[r] = (Real)weight;
            factor_power[r] = (Real)exponent;
        }
        for (int r = num; r < block; ++r) factor[r] = factor_power[r] = 0;
    }

    // The density; the gradient's factor is its derivative in log f, which may exceed the range.
    void density_at_root(int64_t start, int num, bool gradient) {
        alignas(64) Real result[block], in_power[block], in_exponent[block], last_term[block];
        const int64_t root = (int64_t)tree.dim * block;
        for (int r = 0; r < block; r += width) {
            const Vector constant = L::load(generator + r), power = L::load(generator + block + r);
            const Vector p = L::load(generator + 2 * block + r);
            const Log scale = Log::load(generator + 3 * block + r, generator + 4 * block + r);
            const Log f = at(root + r), ratio = f - scale;
            const Vector small = p * ratio.fraction;
            const Vector y = L::clamp(p * ratio.whole + small, -40 * Form::bias, 2 * Form::bias);
            const Vector whole_ = L::round(y);
            const Vector rest =
                L::clamp(L::fma(p, ratio.whole, -whole_) + small, Real(-.5), Real(.5));
            const Vector mantissa = L::exp2_fraction(rest);
            const Bits beyond = y >= Real(log2_largest_power<Real>);
            const Vector t = scaled<L>(mantissa, whole_);
            const Bits at_origin = f.whole <= Form::zero / 2;
            const Vector log_f = (at_origin ? L::all(-1022) : f.sum()) * Real(ln2);
            const Vector density = constant + power * log_f - t;
            L::store(result + r, L::max(beyond ? L::all(-Form::largest) : density,
                                        L::all(-Form::largest)));
            if (!gradient) continue;
            const Bits flat = beyond | at_origin;
            const Vector shift = power == Real(0) ? whole_ : L::max(whole_, Vector{});
            const Vector unshift = L::clamp(-shift, -Form::bias, Form::bias);
            const Vector slope = power * L::power_of_two(unshift)
                - p * mantissa * L::power_of_two(L::max(whole_ - shift, L::all(-Form::bias)));
            L::store(factor + r, flat ? Vector{} : slope);
            L::store(factor_power + r, shift);
            const Vector in_y = beyond ? Vector{} : t;
            L::store(in_power + r, beyond ? Vector{} : log_f);
            L::store(in_exponent + r, in_y * (y * Real(-ln2) / p));
            L::store(last_term + r, beyond ? L::all(-1) : t);
        }
        Real* out = (Real*)task.result + start;
        for (int r = 0; r < num; ++r) out[r] = result[r];
        if (!task.slopes) return;
        Real* slopes = (Real*)task.slopes + tree.nodes * task.rows + start;
        for (int r = 0; r < num; ++r) {
            slopes[r] = in_power[r];
            slopes[task.rows + r] = saturated(in_exponent[r]);
            slopes[2 * task.rows + r] = last_term[r];
        }
    }

    // Downward pass: shares of the nodes; the gradient replaces the share of a leaf.
    void down(int64_t start, int num) {
        const int64_t root = (int64_t)tree.dim * block;
        for (int r = 0; r < block; r += width) L::store(share + root + r, Vector{});
        for (int k = 0; k < tree.nodes; ++k) {
            const int32_t* first = tree.child + tree.first[k];
            const int32_t* last = tree.child + tree.first[k + 1];
            const bool single = last - first == 1;
            const int64_t node = (int64_t)(tree.dim + k) * block, own = (int64_t)k * block;
            for (int r = 0; r < block; r += width) {
                const Log f = at(node + r);
                const Vector p = single ? Vector{} : L::load(exponents + own + r);
                const Vector of_node = L::load(share + node + r);
                const Vector g = L::load(factor + r), power = L::load(factor_power + r);
                for (const int32_t* c = first; c < last; ++c) {
                    const int64_t place = (int64_t)*c * block + r;
                    const Log x = at(place);
                    const Vector y = of_node + p * (x - f).sum();
                    L::store(share + place, *c < tree.dim ? leaf_gradient(y, x, g, power) : y);
                }
            }
            if (task.slopes) store_slopes(k, start, num);
        }
    }

    // g 2^(power + y) / x
    INLINE Vector leaf_gradient(Vector y, Log x, Vector g, Vector power) {
        const Vector exponent = L::max(y - x.fraction, L::all(-4 * Form::bias));
        const Vector whole_ = L::round(exponent);
        const Vector mantissa = g * L::exp2_fraction(exponent - whole_);
        const Vector gradient = scaled<L>(mantissa, whole_ - x.whole + power);
        return x.whole <= Form::zero ? Vector{} : gradient;
    }

    void store_slopes(int k, int64_t start, int num) {
        alignas(64) Real found[block];
        const int64_t node = (int64_t)(tree.dim + k) * block, own = (int64_t)k * block;
        for (int r = 0; r < block; r += width) {
            const Vector y = L::max(L::load(share + node + r), L::all(-4 * Form::bias));
            const Vector whole_ = L::round(y), reciprocal = L::load(reciprocals + own + r);
            const Vector inner = L::load(inner_slopes + own + r) * reciprocal * reciprocal;
            const Vector slope =
                L::load(factor + r) * inner * Real(ln2) * L::exp2_fraction(y - whole_);
            L::store(found + r, scaled<L>(slope, whole_ + L::load(factor_power + r)));
        }
        Real* slopes = (Real*)task.slopes + k * task.rows + start;
        for (int r = 0; r < num; ++r) slopes[r] = saturated(found[r]);
    }

    // Applies the signs of the values, and saturates at the largest number.
    void store_gradient(int64_t start, int num) {
        for (int64_t j = 0; j < (int64_t)tree.dim * block; j += width) {
            const Vector g = L::clamp(L::load(share + j), -Form::largest, Form::largest);
            const Bits sign = (Bits)L::load(values + j) & L::sign_bit;
            L::store(values + j, (Vector)((Bits)g ^ sign));
        }
        Real* out = (Real*)task.in_value + start * tree.dim;
        for (int i = 0; i < tree.dim; i += block) {
            const int columns = tree.dim - i < block ? tree.dim - i : block;
            const Real* from[block];
            for (int c = 0; c < columns; ++c) from[c] = values + (int64_t)(i + c) * block;
            transpose<Real>(from, columns, num, out + i, tree.dim);
        }
    }

    // NaN for a row with a NaN or an invalid parameter; the limit for a row with an infinity.
    void mend(int64_t start, int num) {
        constexpr Real nan = __builtin_nan(""), infinity = __builtin_inf();
        for (int r = 0; r < num; ++r) {
            bool is_nan = invalid[r], infinite = false;
            for (int i = 0; i < tree.dim; ++i) {
                is_nan |= row[r][i] != row[r][i];
                infinite |= row[r][i] > Form::largest || row[r][i] < -Form::largest;
            }
            if (!is_nan && !infinite) continue;
            if (task.norm && task.result)
                ((double*)task.result)[start + r] = is_nan ? nan : infinity;
            if (!task.norm) ((Real*)task.result)[start + r] = is_nan ? nan : -infinity;
            const Real gradient = is_nan ? nan : 0;
            if (task.in_value)
                for (int i = 0; i < tree.dim; ++i)
                    ((Real*)task.in_value)[(start + r) * tree.dim + i] = gradient;
            if (!task.slopes) continue;
            Real* slopes = (Real*)task.slopes + start + r;
            const int64_t num_slopes = tree.nodes + (task.norm ? 0 : 3);
            for (int64_t k = 0; k < num_slopes; ++k) slopes[k * task.rows] = gradient;
            if (!task.norm && !is_nan) slopes[(num_slopes - 1) * task.rows] = -1;
        }
    }
};

}  // namespace
