// Counter-based random words, and the uniform, normal and gamma variables derived from them.
//
// Threefry (Salmon, Moraes, Dror & Shaw, Parallel random numbers: as easy as 1, 2, 3, 2011)
// encrypts a counter. Words depend only on the seed and on where they are used, so that draws are
// the same for any number of threads and any division of the work.
#pragma once

#include "vector.h"

namespace {

constexpr double ln2 = 0.69314718055994530942;

// Four words at a time, as wide as the floating-point type, with the twenty rounds that the authors
// recommend: a safety margin over the minimum that passes BigCrush.
template <class Real>
struct Threefry;

template <>
struct Threefry<float> {
    using Word = uint32_t;
    static constexpr Word parity = 0x1BD11BDA;
    static constexpr int rotations[8][2] = {{10, 26}, {11, 21}, {13, 27}, {23, 5},
                                            {6, 20},  {17, 11}, {25, 10}, {18, 20}};
};

template <>
struct Threefry<double> {
    using Word = uint64_t;
    static constexpr Word parity = 0x1BD11BDAA9FC1A22;
    static constexpr int rotations[8][2] = {{14, 16}, {52, 57}, {23, 40}, {5, 37},
                                            {25, 33}, {46, 12}, {58, 22}, {32, 32}};
};

template <class Real>
struct Random {
    using L = Lanes<Real>;
    using Form = Format<Real>;
    using Bits = typename L::Bits;
    using Vector = typename L::Vector;
    using Word = typename Threefry<Real>::Word;
    typedef Word Words __attribute__((vector_size(BYTES)));
    static constexpr int rounds = 20, size = 8 * sizeof(Word);
    // sin(2 pi x) / x in x^2, for x up to 1/4; relative errors: 5e-9 (short) and 3e-19.
    static constexpr Real sine[] = {
        Real(6.2831853071795864753), Real(-41.341702240399756229), Real(81.605249276073406093),
        Real(-76.705859752798497458), Real(42.058693923785235852), Real(-15.09464162050996145),
        Real(3.8199270504789338467), Real(-0.71772358015544981943),
        Real(0.10085633077354055854)};
    static constexpr float short_sine[] = {
        6.2831852737908230876f, -41.341677478395813232f, 81.602231242559874884f,
        -76.574992171787987289f, 39.710918036888177791f};
    // The depth above which rejection is rarer than the smallest uniform variable.
    static constexpr Real never_rejected = Real((int64_t)1 << (Form::mantissa - 3));

    // The counter of each lane: where its words are used.
    struct Counter {
        Words words[4];
        inline void set(int lane, uint64_t row, uint32_t place, uint32_t attempt) {
            const Word narrow[4] = {(Word)row, (Word)(row >> 32), place, attempt};
            const Word wide[4] = {(Word)row, place, attempt, 0};
            for (int i = 0; i < 4; ++i) words[i][lane] = sizeof(Word) == 4 ? narrow[i] : wide[i];
        }
    };

    // The counter of first attempts for consecutive rows, from a multiple of the number of lanes.
    INLINE Counter count(uint64_t row, uint32_t place) {
        Counter first;
        first.set(0, row, place, 0);
        Counter all;
        UNROLL for (int i = 0; i < 4; ++i) all.words[i] = Words{} + first.words[i][0];
        Words lane = {};
        UNROLL for (int i = 0; i < L::width; ++i) lane[i] = (Word)i;
        all.words[0] += lane;
        return all;
    }

    template <int left>
    INLINE Words rotated(Words x) { return (x << left) | (x >> (size - left)); }

    // One round on two pairs of words, with key injection after every fourth.
    template <int round>
    INLINE void mix(Words (&x)[4], const Word (&key)[5]) {
        if constexpr (round < rounds) {
            constexpr int b = round % 2 ? 3 : 1, d = round % 2 ? 1 : 3;
            constexpr auto& by = Threefry<Real>::rotations[round % 8];
            x[0] += x[b];
            x[b] = rotated<by[0]>(x[b]) ^ x[0];
            x[2] += x[d];
            x[d] = rotated<by[1]>(x[d]) ^ x[2];
            if constexpr (round % 4 == 3) {
                constexpr int turn = (round + 1) / 4;
                UNROLL for (int i = 0; i < 4; ++i) x[i] += key[(turn + i) % 5];
                x[3] += (Word)turn;
            }
            mix<round + 1>(x, key);
        }
    }

    INLINE void encrypt(Words (&x)[4], uint64_t seed) {
        const Word low = (Word)seed, high = sizeof(Word) == 4 ? (Word)(seed >> 32) : 0;
        const Word key[5] = {low, high, 0, 0, Threefry<Real>::parity ^ low ^ high};
        UNROLL for (int i = 0; i < 4; ++i) x[i] += key[i];
        mix<0>(x, key);
    }

    // Uniform on (0, 1): odd multiples of 2^-24 (2^-53), from the upper bits of a word.
    INLINE Vector uniform(Words x) {
        const Vector from_one = (Vector)((Bits)(x >> (size - Form::mantissa)) | (Bits)L::all(1));
        return from_one - (1 - Real(0.5) / Real((int64_t)1 << Form::mantissa));
    }

    // Uniform on (0, 1], in finer steps near 0, from all bits but the lowest.
    INLINE Vector fine_uniform(Words x) {
        if constexpr (sizeof(Word) == 8)
            return uniform(x);
        else
            return __builtin_convertvector((Bits)(x >> 1), Vector) * 0x1p-31f + 0x1p-32f;
    }

    INLINE Vector log2_fine_uniform(Words x) { return log2_of<L>(fine_uniform(x)).sum(); }

    INLINE Vector root(Vector x) {
        UNROLL for (int i = 0; i < L::width; ++i) {
            if constexpr (sizeof(Real) == 4)
                x[i] = __builtin_sqrtf(x[i]);
            else
                x[i] = __builtin_sqrt(x[i]);
        }
        return x;
    }

    // One of the two normal variables of Box & Muller.
    INLINE Vector normal(Words radius, Words angle) {
        const Vector turn = Real(0.25) - Real(0.5) * uniform(angle);
        Vector sine_;
        if constexpr (sizeof(Real) == 4)
            sine_ = turn * L::polynomial(short_sine, turn * turn);
        else
            sine_ = turn * L::polynomial(sine, turn * turn);
        return root(log2_fine_uniform(radius) * Real(-2 * ln2)) * sine_;
    }

    // One attempt at log2(G / depth) for a gamma variable G of shape depth + 1/3, at least 1, by
    // Marsaglia & Tsang (A simple method for generating gamma variables, 2000), with
    // step = (9 depth)^(-1/2); with one unused word.
    struct Attempt {
        Vector log2_cube;
        Bits rejected;
        Words rest;
    };

    INLINE Attempt attempt(Counter counter, uint64_t seed, Vector depth, Vector step) {
        Words(&x)[4] = counter.words;
        encrypt(x, seed);
        const Vector z = normal(x[0], x[1]), t = step * z;
        const Bits outside = t <= Real(-1);
        const Vector log2_root = log2_1p(outside ? Vector{} : t);
        // z^2 / 2 + d (1 - v + log v) with v = (1 + t)^3; a NaN is accepted, to terminate
        const Vector log_ratio = log2_root * Real(3 * ln2) - t * (t * (t + Real(3)) + Real(3));
        const Vector log_accepted = z * z * Real(0.5) + depth * log_ratio;
        const Vector log_uniform = log2_of<L>(uniform(x[2])).sum() * Real(ln2);
        const Bits worse = (log_uniform >= log_accepted) & (depth < never_rejected);
        return {log2_root * Real(3), outside | worse, x[3]};
    }

    // log2(1 + x) for x > -1, exact where x is small.
    INLINE Vector log2_1p(Vector x) {
        const Vector sum = x + Real(1);
        const Bits near = (sum > Real(0.71)) & (sum < Real(1.41));
        const Log2<L> far = log2_of<L>(sum);
        return near ? log2_near_one<L>(x) : far.sum();
    }
};

}  // namespace
