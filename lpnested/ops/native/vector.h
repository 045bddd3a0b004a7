// Vector mathematics: types of one instruction set, logarithms and powers of two, transposes.
//
// A file that includes this one is compiled once per instruction set, with vectors of BYTES bytes.
// Everything has internal linkage, and no standard library templates are used: the linker must
// never substitute the code of one instruction set for that of another.
#pragma once

#include <cstdint>
#include <cstring>

#if defined(__x86_64__)
#include <immintrin.h>
#else
#include <arm_neon.h>
#endif

#ifndef BYTES
#error "BYTES is the width of a vector: 16, 32 or 64"
#endif

#define INLINE static inline __attribute__((always_inline))
#if defined(__clang__)
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 32")
#endif

namespace {

// The constants of a floating-point type.
template <class Real>
struct Format;

template <>
struct Format<float> {
    using Integer = int32_t;
    static constexpr int mantissa = 23, bias = 127, lift = 24;
    static constexpr float smallest = 1.17549435e-38f, largest = 3.40282347e38f;
    static constexpr float zero = -1e30f;  // log2 of 0, finite to avoid inf - inf
    static constexpr Integer sqrt_half = 0x3f3504f3;
    // 2^x on [-1/2, 1/2]; log2(1 + x) / x on [sqrt(1/2) - 1, sqrt(2) - 1].
    static constexpr float exp2[] = {
        1.0f, 0.69314720670283259577f, 0.24022650922288758071f, 0.055503272266703020589f,
        0.0096180566785246380754f, 0.001340042817761583794f, 0.00015461444698569129083f};
    static constexpr float log2[] = {
        1.4426950399991883989f, -0.72134735447890533365f, 0.48089852032406419964f,
        -0.36069654180750509726f, 0.28855256143746741024f, -0.23960812190957284981f,
        0.20485764778621930169f, -0.19138837656672539123f, 0.18476033365181378718f,
        -0.10749789418083205485f};
};

template <>
struct Format<double> {
    using Integer = int64_t;
    static constexpr int mantissa = 52, bias = 1023, lift = 54;
    static constexpr double smallest = 2.2250738585072014e-308;
    static constexpr double largest = 1.7976931348623157e308;
    static constexpr double zero = -1e30;
    static constexpr Integer sqrt_half = 0x3fe6a09e667f3bcdLL;
    static constexpr double exp2[] = {
        1.0, 0.69314718055994530835, 0.24022650695910071228, 0.055504108664821698992,
        0.0096181291076284830543, 0.0013333558146390352775, 0.00015403530393362755291,
        0.000015252733856293466416, 1.3215486815999976975e-6, 1.017805119296064896e-7,
        7.0548943863483480445e-9, 4.4566753410492058782e-10, 2.5733568308756891235e-11};
    // log2((1 + x) / (1 - x)) / x in x^2.
    static constexpr double log2[] = {
        2.8853900817779268114, 0.96179669392598982947, 0.57707801634545861029,
        0.41219858585486295499, 0.32059853342274652682, 0.26233443357284678024,
        0.22091091423702619923, 0.21368163909696674282};
};

// Vectors of a type, and elementwise operations on them.
template <class Real_>
struct Lanes {
    using Real = Real_;
    using Form = Format<Real>;
    using Integer = typename Form::Integer;
    static constexpr int width = BYTES / sizeof(Real);
    typedef Real Vector __attribute__((vector_size(BYTES)));
    typedef Integer Bits __attribute__((vector_size(BYTES)));
    static constexpr Integer sign_bit = Integer(1) << (8 * sizeof(Real) - 1);
    static constexpr Real rounder = Real(3) * Real(Integer(1) << (Form::mantissa - 1));

    INLINE Vector load(const Real* from) {
        Vector v;
        std::memcpy(&v, from, BYTES);
        return v;
    }
    INLINE void store(Real* to, Vector v) { std::memcpy(to, &v, BYTES); }
    INLINE Vector all(Real x) { return Vector{} + x; }
    INLINE Vector max(Vector a, Vector b) { return a > b ? a : b; }
    INLINE Vector min(Vector a, Vector b) { return a < b ? a : b; }
    INLINE Vector clamp(Vector x, Real low, Real high) { return min(max(x, all(low)), all(high)); }
    INLINE Vector magnitude(Vector x) { return (Vector)((Bits)x & ~sign_bit); }
    // For magnitudes below 2^22 (2^51).
    INLINE Vector round(Vector x) { return (x + rounder) - rounder; }
    // 2^k for integral k from -bias (which gives 0) to bias.
    INLINE Vector power_of_two(Vector k) {
        return (Vector)((Bits)(k + (rounder + Real(Form::bias))) << Form::mantissa);
    }
    // a b + c, rounded once, where accuracy depends on it: contraction is not guaranteed.
    INLINE Vector fma(Vector a, Vector b, Vector c) {
#if defined(__x86_64__) && BYTES == 64
        if constexpr (sizeof(Real) == 4)
            return (Vector)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
        else
            return (Vector)_mm512_fmadd_pd((__m512d)a, (__m512d)b, (__m512d)c);
#elif defined(__x86_64__) && BYTES == 32
        if constexpr (sizeof(Real) == 4)
            return (Vector)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
        else
            return (Vector)_mm256_fmadd_pd((__m256d)a, (__m256d)b, (__m256d)c);
#elif defined(__x86_64__)
        if constexpr (sizeof(Real) == 4)
            return (Vector)_mm_fmadd_ps((__m128)a, (__m128)b, (__m128)c);
        else
            return (Vector)_mm_fmadd_pd((__m128d)a, (__m128d)b, (__m128d)c);
#else
        if constexpr (sizeof(Real) == 4)
            return (Vector)vfmaq_f32((float32x4_t)c, (float32x4_t)a, (float32x4_t)b);
        else
            return (Vector)vfmaq_f64((float64x2_t)c, (float64x2_t)a, (float64x2_t)b);
#endif
    }
    INLINE bool any(Bits mask) {
        Integer found = 0;
        UNROLL for (int i = 0; i < width; ++i) found |= mask[i];
        return found != 0;
    }
    // Even and odd powers separately by Horner's rule, which halves the dependency chain. Products
    // and sums are contracted to fused operations.
    template <int num>
    INLINE Vector polynomial(const Real (&coefficients)[num], Vector x) {
        const Vector square = x * x;
        Vector sums[2] = {all(coefficients[(num - 1) & ~1]), all(coefficients[(num - 2) | 1])};
        UNROLL for (int i = num - 3; i >= 0; --i)
            sums[i & 1] = sums[i & 1] * square + coefficients[i];
        return sums[1] * x + sums[0];
    }
    INLINE Vector exp2_fraction(Vector x) { return polynomial(Form::exp2, x); }
};

// A positive number as its base-2 logarithm, in two parts whose sum is not rounded.
template <class L>
struct Log2 {
    typename L::Vector whole, fraction;  // an integer, and up to about 1/2 in magnitude
    INLINE Log2 load(const typename L::Real* wholes, const typename L::Real* fractions) {
        return {L::load(wholes), L::load(fractions)};
    }
    inline __attribute__((always_inline)) typename L::Vector sum() const {
        return whole + fraction;
    }
};

template <class L>
INLINE Log2<L> operator-(Log2<L> a, Log2<L> b) {
    return {a.whole - b.whole, a.fraction - b.fraction};
}

// log2(1 + x) for 1 + x from sqrt(1/2) to sqrt(2).
template <class L>
INLINE typename L::Vector log2_near_one(typename L::Vector x) {
    using Real = typename L::Real;
    if constexpr (sizeof(Real) == 4) return x * L::polynomial(L::Form::log2, x);
    const typename L::Vector ratio = x / (x + Real(2));  // a third of the terms
    return ratio * L::polynomial(L::Form::log2, ratio * ratio);
}

// log2 of normal positive numbers.
template <class L>
INLINE Log2<L> log2_of(typename L::Vector x) {
    using Form = typename L::Form;
    using Real = typename L::Real;
    using Bits = typename L::Bits;
    using Vector = typename L::Vector;
    const Bits bits = (Bits)x;
    const Bits exponent = (bits - Form::sqrt_half) >> Form::mantissa;
    const Vector rest = (Vector)(bits - (exponent << Form::mantissa)) - Real(1);
    Vector whole;
    if constexpr (sizeof(Real) == 4) {
        whole = __builtin_convertvector(exponent, Vector);
    } else {  // AVX2 cannot convert 64-bit integers: put them in the low bits of a large number
        constexpr Real large = 4503599627370496.0;  // 2^52
        constexpr typename L::Integer shift = 1 << 20;
        whole = (Vector)((exponent + shift) | (Bits)L::all(large)) - (large + Real(shift));
    }
    return {whole, log2_near_one<L>(rest)};
}

// 2^x; outside of the normal range 0 or the largest power of two.
template <class L>
INLINE typename L::Vector exp2_of(typename L::Vector x) {
    using Real = typename L::Real;
    x = L::clamp(x, Real(-L::Form::bias), Real(L::Form::bias));
    const auto whole = L::round(x);
    return L::exp2_fraction(x - whole) * L::power_of_two(whole);
}

// x 2^k for integral k, in two steps, so that the result may be subnormal or overflow.
template <class L>
INLINE typename L::Vector scaled(typename L::Vector x, typename L::Vector k) {
    using Real = typename L::Real;
    k = L::clamp(k, Real(-2 * L::Form::bias), Real(2 * L::Form::bias));
    const auto half = L::round(k * Real(0.5));
    return x * L::power_of_two(half) * L::power_of_two(k - half);
}

// Eight vectors of eight numbers, for an 8 x 8 transpose.
template <class Real>
struct Eight {
    typedef Real Vector __attribute__((vector_size(8 * sizeof(Real))));
    typedef typename Format<Real>::Integer Bits __attribute__((vector_size(8 * sizeof(Real))));
};

#if defined(__clang__)
#define SHUFFLE(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define SHUFFLE(a, b, ...) __builtin_shuffle(a, b, (typename Eight<Real>::Bits){__VA_ARGS__})
#endif

template <class Real>
INLINE void transpose_eight(typename Eight<Real>::Vector (&rows)[8]) {
    typename Eight<Real>::Vector swapped[8];
    UNROLL for (int i = 0; i < 8; i += 2) {
        swapped[i] = SHUFFLE(rows[i], rows[i + 1], 0, 8, 2, 10, 4, 12, 6, 14);
        swapped[i + 1] = SHUFFLE(rows[i], rows[i + 1], 1, 9, 3, 11, 5, 13, 7, 15);
    }
    UNROLL for (int i = 0; i < 8; ++i) {
        if (i & 2) continue;
        rows[i] = SHUFFLE(swapped[i], swapped[i + 2], 0, 1, 8, 9, 4, 5, 12, 13);
        rows[i + 2] = SHUFFLE(swapped[i], swapped[i + 2], 2, 3, 10, 11, 6, 7, 14, 15);
    }
    UNROLL for (int i = 0; i < 4; ++i) {
        swapped[i] = SHUFFLE(rows[i], rows[i + 4], 0, 1, 2, 3, 8, 9, 10, 11);
        swapped[i + 4] = SHUFFLE(rows[i], rows[i + 4], 4, 5, 6, 7, 12, 13, 14, 15);
    }
    UNROLL for (int i = 0; i < 8; ++i) rows[i] = swapped[i];
}

// out[c * out_stride + r] = row r [c], for the rows at `rows`, each of `num_columns` numbers.
template <class Real>
INLINE void transpose(
    const Real* const* rows, int num_rows, int num_columns, Real* out, int64_t out_stride) {
    using Vector = typename Eight<Real>::Vector;
    if (num_rows < 8 || num_columns < 8) {
        for (int r = 0; r < num_rows; ++r)
            for (int c = 0; c < num_columns; ++c) out[c * out_stride + r] = rows[r][c];
        return;
    }
    for (int i = 0; i < num_rows; i += 8) {  // the last eight may overlap the previous ones
        const int r = i + 8 > num_rows ? num_rows - 8 : i;
        for (int j = 0; j < num_columns; j += 8) {
            const int c = j + 8 > num_columns ? num_columns - 8 : j;
            Vector part[8];
            UNROLL for (int k = 0; k < 8; ++k)
                std::memcpy(&part[k], rows[r + k] + c, sizeof(Vector));
            transpose_eight<Real>(part);
            UNROLL for (int k = 0; k < 8; ++k)
                std::memcpy(out + (c + k) * out_stride + r, &part[k], sizeof(Vector));
        }
    }
}

}  // namespace
