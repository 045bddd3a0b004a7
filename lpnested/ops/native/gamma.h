// Gamma variables, as logarithms, for blocks of rows.
//
// G of shape a has the distribution of G of shape a + 1 times U^(1/a), with U uniform; its
// logarithm does not underflow for any shape.
#pragma once

#include "draw_task.h"
#include "random.h"

namespace {

using lpnested::block_of;
using lpnested::GammaDraw;

// Takes an aligned section of scratch memory and advances the pointer.
template <class Number>
INLINE Number* taken(char*& memory, int64_t numbers) {
    Number* start = (Number*)(((uintptr_t)memory + 63) & ~(uintptr_t)63);
    memory = (char*)(start + numbers);
    return start;
}

// Gamma variables of shape depth + 1/3, for a block of rows at each of several places.
template <class Real>
class GammaBlock {
    using L = Lanes<Real>;
    using Vector = typename L::Vector;
    using R = Random<Real>;
    using Word = typename R::Word;
    using Words = typename R::Words;

    const int rows;  // a power of two, at least the number of lanes
    const uint64_t seed;
    int64_t num_rejected = 0;
    // (places, rows): inputs and outputs of an attempt, and the rejected cells.
    Real *depth, *step, *log2_cube;
    Word* rest;
    int32_t* rejected;

public:
    static int64_t scratch(int64_t cells) {
        return cells * (3 * sizeof(Real) + sizeof(Word) + sizeof(int32_t)) + 5 * 64;
    }

    GammaBlock(int64_t places, int rows, uint64_t seed, char*& memory) : rows(rows), seed(seed) {
        depth = taken<Real>(memory, places * rows);
        step = taken<Real>(memory, places * rows);
        log2_cube = taken<Real>(memory, places * rows);
        rest = taken<Word>(memory, places * rows);
        rejected = taken<int32_t>(memory, places * rows);
    }

    // Sets shapes of at least 1; returns d, where G = d v and the attempts draw log2 v.
    Vector set_shape(int64_t cell, Vector shape) {
        const Vector d = shape - Real(1) / 3;
        L::store(depth + cell, d);
        L::store(step + cell, Real(1) / R::root(Real(9) * d));
        return d;
    }

    Vector log2_v(int64_t cell) const { return L::load(log2_cube + cell); }

    Words word(int64_t cell) const {
        Words x;
        std::memcpy(&x, rest + cell, BYTES);
        return x;
    }

    // Draws only a word, for a place that needs no gamma variable.
    void words(int64_t first_row, int32_t place) {
        for (int r = 0; r < rows; r += L::width) {
            auto counter = R::count(first_row + r, place);
            R::encrypt(counter.words, seed);
            std::memcpy(rest + (int64_t)place * rows + r, &counter.words[3], BYTES);
        }
    }

    void first_attempts(int64_t first_row, int32_t place) {
        for (int r = 0; r < rows; r += L::width) {
            const int64_t cell = (int64_t)place * rows + r;
            const auto found = R::attempt(R::count(first_row + r, place), seed,
                                          L::load(depth + cell), L::load(step + cell));
            L::store(log2_cube + cell, found.log2_cube);
            std::memcpy(rest + cell, &found.rest, BYTES);
            if (!L::any(found.rejected)) continue;
            for (int lane = 0; lane < L::width; ++lane)
                if (found.rejected[lane]) rejected[num_rejected++] = (int32_t)(cell + lane);
        }
    }

    // Redraws the rejected cells, as many at a time as there are lanes.
    void further_attempts(int64_t first_row) {
        for (uint32_t attempt = 1; num_rejected; ++attempt) {
            int64_t kept = 0;
            for (int64_t i = 0; i < num_rejected; i += L::width) {
                const int64_t left = num_rejected - i;
                const int lanes = left < L::width ? (int)left : L::width;
                typename R::Counter counter = {};
                Vector d = L::all(1), c = {};
                for (int lane = 0; lane < lanes; ++lane) {
                    const int32_t cell = rejected[i + lane];
                    counter.set(lane, first_row + cell % rows, cell / rows, attempt);
                    d[lane] = depth[cell];
                    c[lane] = step[cell];
                }
                const auto found = R::attempt(counter, seed, d, c);
                for (int lane = 0; lane < lanes; ++lane) {
                    const int32_t cell = rejected[i + lane];
                    log2_cube[cell] = found.log2_cube[lane];
                    rest[cell] = found.rest[lane];
                    if (found.rejected[lane]) rejected[kept++] = cell;
                }
            }
            num_rejected = kept;
        }
    }
};

// Elements in blocks, each with its own shape: log G = log d + log v + log U / a, in double.
template <class Real>
class LogGammaBlock {
    using L = Lanes<Real>;
    using R = Random<Real>;
    using D = Lanes<double>;

    const GammaDraw& task;
    const int rows;
    GammaBlock<Real> gammas;
    double *shapes, *log2_depth, *log2_v, *log2_u;
    int64_t filled_from = -1;

public:
    static int64_t scratch(const GammaDraw& task) {
        const int64_t rows = block_of(task);
        return GammaBlock<Real>::scratch(rows) + 4 * (rows * sizeof(double) + 64);
    }

    LogGammaBlock(const GammaDraw& task, char* memory)
        : task(task), rows((int)block_of(task)), gammas(1, rows, task.seed, memory) {
        shapes = taken<double>(memory, rows);
        log2_depth = taken<double>(memory, rows);
        log2_v = taken<double>(memory, rows);
        log2_u = taken<double>(memory, rows);
    }

    void work(int64_t start, int num) {
        fill_shapes(start);
        gammas.first_attempts(start, 0);
        gammas.further_attempts(start);
        for (int r = 0; r < rows; r += L::width) {
            const auto v = gammas.log2_v(r), u = R::log2_fine_uniform(gammas.word(r));
            for (int lane = 0; lane < L::width; ++lane) {
                log2_v[r + lane] = (double)v[lane];
                log2_u[r + lane] = (double)u[lane];
            }
        }
        double* out = task.result + start;
        for (int r = 0; r < num; ++r)
            out[r] = ln2 * (log2_depth[r] + log2_v[r] + log2_u[r] / shapes[r]);
    }

private:
    void fill_shapes(int64_t start) {
        const int64_t from = start % task.batch;
        if (from == filled_from) return;
        filled_from = from;
        int64_t b = from;
        for (int r = 0; r < rows; ++r) {
            const double shape = task.shape[b];
            const bool valid = shape > 0 && shape - shape == 0;
            shapes[r] = valid ? shape : __builtin_nan("");
            if (++b == task.batch) b = 0;
        }
        for (int r = 0; r < rows; r += D::width)
            D::store(log2_depth + r, log2_of<D>(D::load(shapes + r) + 2.0 / 3).sum());
        for (int r = 0; r < rows; r += L::width) {
            typename L::Vector shape;
            for (int lane = 0; lane < L::width; ++lane) shape[lane] = (Real)shapes[r + lane];
            gammas.set_shape(r, shape + Real(1));
        }
    }
};

}  // namespace
