// Calls every function of the C interface with random trees, sizes, strides and numbers, in buffers
// of exactly the size that each needs. Built with sanitizers, it ends at the first error; without,
// it checks that results are finite where they must be, and the same for any number of threads.
//
//     fuzz SEED ROUNDS
#include <math.h>
#include <stdio.h>

#include <algorithm>
#include <memory>
#include <random>
#include <thread>
#include <vector>

#include "interface.cpp"

namespace {

std::mt19937_64 generator;

int64_t between(int64_t low, int64_t high) {
    return std::uniform_int_distribution<int64_t>(low, high)(generator);
}
double uniform(double low, double high) {
    return std::uniform_real_distribution<double>(low, high)(generator);
}
bool one_in(int64_t n) { return between(1, n) == 1; }

void require(bool condition, const char* what) {
    if (condition) return;
    fprintf(stderr, "fuzz: %s\n", what);
    exit(1);
}

// Torch's loop over threads, with pieces of random sizes.
int on_threads(
    int64_t first, int64_t last, int64_t, void (*work)(int64_t, int64_t, void*), void* context) {
    std::vector<std::thread> threads;
    while (first < last) {
        const int64_t end = threads.size() > 2 ? last : between(first + 1, last);
        threads.emplace_back(work, first, end, context);
        first = end;
    }
    for (std::thread& thread : threads) thread.join();
    return 0;
}

// Numbers on the heap, of their own size to the byte, as float or as double.
struct Buffer {
    bool is_double;
    int64_t size;
    std::unique_ptr<char[]> memory;

    Buffer(bool is_double, int64_t size)
        : is_double(is_double), size(size), memory(new char[size * width()]) {}
    int64_t width() const { return is_double ? 8 : 4; }
    void* data() const { return memory.get(); }
    void set(int64_t k, double x) {
        if (is_double) ((double*)data())[k] = x;
        else ((float*)data())[k] = (float)x;
    }
    double at(int64_t k) const {
        return is_double ? ((double*)data())[k] : ((float*)data())[k];
    }
    bool equals(const Buffer& other) const {
        return !memcmp(data(), other.data(), size * width());
    }
    bool finite() const {
        bool all = true;
        for (int64_t k = 0; k < size; ++k) all &= isfinite(at(k)) != 0;
        return all;
    }
};

struct Structure {
    int32_t dim = 0, nodes = 0;
    std::unique_ptr<int32_t[]> numbers;

    Structure() {
        std::vector<std::vector<int64_t>> children(1);  // an inner node as -1
        const int64_t most = one_in(8) ? 90 : 6, deep = between(0, 12);
        for (size_t k = 0; k < children.size(); ++k) {
            const int64_t num = one_in(4) ? 1 : between(1, most);
            for (int64_t c = 0; c < num; ++c) {
                const bool inner = (int64_t)children.size() <= deep && one_in(3);
                children[k].push_back(inner ? -1 : dim++);
                if (inner) children.emplace_back();
            }
        }
        nodes = (int32_t)children.size();
        std::vector<int32_t> places(dim);
        for (int32_t i = 0; i < dim; ++i) places[i] = i;
        std::shuffle(places.begin(), places.end(), generator);
        numbers.reset(new int32_t[2 + nodes + 1 + dim + nodes - 1]);
        int32_t *first = numbers.get() + 2, *child = first + nodes + 1, inner = 0;
        numbers[0] = dim;
        numbers[1] = nodes;
        *first = 0;
        for (const auto& row : children) {
            for (int64_t c : row) *child++ = c < 0 ? dim + ++inner : places[c];
            first[1] = first[0] + (int32_t)row.size();
            ++first;
        }
    }
};

double a_value(double scale) {
    const double special[] = {0., INFINITY, -INFINITY, NAN, 1e-40, 1e-45, 3e38, 1e-320, 1e308, -0.};
    if (one_in(200)) return special[between(0, 9)];
    return uniform(-1, 1) * exp(uniform(-scale, scale));
}

double a_parameter(bool may_be_wrong) {
    const double wrong[] = {0., -1., INFINITY, NAN, 1e300, 1e-300};
    if (may_be_wrong && one_in(10)) return wrong[between(0, 5)];
    return exp(uniform(log(.1), log(200.)));
}

// One of each batch row, or one for all.
struct Parameters {
    int64_t stride;
    Buffer numbers;

    Parameters(bool is_double, int64_t batch, bool wrong)
        : stride(between(0, 2)), numbers(is_double, 1 + (batch - 1) * stride) {
        for (int64_t k = 0; k < numbers.size; ++k) numbers.set(k, a_parameter(wrong));
    }
    Parameter given() const { return {numbers.data(), stride}; }
};

// A random call, and everything it points to.
struct Call {
    Structure tree;
    bool is_double = one_in(2), wrong = one_in(5), has_dim = one_in(2);
    int64_t samples = one_in(20) ? 0 : one_in(4) ? between(1, 1500) : between(1, 140);
    int64_t batch = one_in(2) ? 1 : between(2, 70), rows;
    int64_t sample_stride, batch_stride, node_stride, exponents_stride;
    std::unique_ptr<Buffer> value, exponents;
    Parameters dim, exponent, scale;

    Call()
        : dim(is_double, batch, wrong), exponent(is_double, batch, wrong),
          scale(is_double, batch, wrong) {
        if (samples * batch > 20000) samples = 1 + 20000 / batch;
        rows = samples * batch;
        batch_stride = one_in(4) ? 0 : tree.dim + between(0, 2);
        sample_stride = one_in(4) ? 0 : batch * batch_stride + between(0, 2);
        const int64_t last = (samples - 1) * sample_stride + (batch - 1) * batch_stride;
        value.reset(new Buffer(is_double, rows ? last + tree.dim : 0));
        const double decades = one_in(3) ? 69 : 3;
        for (int64_t k = 0; k < value->size; ++k) value->set(k, a_value(decades));
        node_stride = between(0, 2);
        exponents_stride = one_in(3) ? 0 : tree.nodes * node_stride + between(0, 1);
        const int64_t numbers = 1 + (tree.nodes - 1) * node_stride + (batch - 1) * exponents_stride;
        exponents.reset(new Buffer(is_double, numbers));
        for (int64_t k = 0; k < numbers; ++k) exponents->set(k, a_parameter(wrong));
    }
    Arguments given(ParallelFor parallel_for) const {
        return {
            parallel_for, tree.numbers.get(), is_double, rows, batch, value->data(), sample_stride,
            batch_stride, exponents->data(), exponents_stride, node_stride,
            has_dim ? dim.given() : Parameter{nullptr, 0}, exponent.given(), scale.given()};
    }
    bool ordinary() const { return !wrong && value->finite(); }
};

void fuzz_density(const Call& call) {
    const bool in_value = one_in(2), slopes = one_in(2), is_double = call.is_double;
    const int64_t columns = call.tree.nodes + 3, stride = between(0, 3), rows = call.rows;
    const Buffer weights(is_double, rows ? 1 + (rows - 1) * stride : 0);
    for (int64_t k = 0; k < weights.size; ++k) const_cast<Buffer&>(weights).set(k, a_value(3));
    std::vector<std::unique_ptr<Buffer>> found[2];
    for (int k = 0; k < 2; ++k) {
        const Arguments given = call.given(k ? on_threads : nullptr);
        for (int64_t size : {rows, in_value ? rows * call.tree.dim : 0, slopes ? rows * columns : 0,
                             in_value ? rows * call.tree.dim : 0,
                             slopes ? call.batch * columns : 0})
            found[k].emplace_back(new Buffer(is_double, size));
        auto at = [&](int i) { return found[k][i]->size ? found[k][i]->data() : nullptr; };
        if (!rows) return;
        require(!lpnested_density(&given, at(0), at(1), at(2)), "density: no memory");
        require(
            !lpnested_density_backward(
                &given, rows, weights.data(), stride, at(1), at(2), at(3), at(4)),
            "density_backward: no memory");
    }
    for (size_t i = 0; i < found[0].size(); ++i)
        require(found[0][i]->equals(*found[1][i]), "density: threads change the result");
    for (int i = 0; call.ordinary() && i < 3; ++i)
        require(found[0][i]->finite(), "density: not finite");
}

void fuzz_norm(const Call& call) {
    const bool in_value = one_in(2), in_exponents = one_in(2), is_double = call.is_double;
    const int64_t rows = call.rows, nodes = call.tree.nodes;
    const Buffer weights(true, rows);
    for (int64_t k = 0; k < rows; ++k) const_cast<Buffer&>(weights).set(k, a_value(3));
    std::vector<std::unique_ptr<Buffer>> found[2];
    for (int k = 0; k < 2; ++k) {
        const Arguments given = call.given(k ? on_threads : nullptr);
        found[k].emplace_back(new Buffer(true, rows));
        for (int64_t size : {in_value ? rows * call.tree.dim : 0, in_exponents ? nodes * rows : 0,
                             in_exponents ? call.batch * nodes : 0})
            found[k].emplace_back(new Buffer(is_double, size));
        auto at = [&](int i) { return found[k][i]->size ? found[k][i]->data() : nullptr; };
        if (!rows) return;
        require(!lpnested_norm(&given, (double*)at(0)), "norm: no memory");
        require(
            !lpnested_norm_backward(&given, (const double*)weights.data(), at(1), at(2), at(3)),
            "norm_backward: no memory");
    }
    for (size_t i = 0; i < found[0].size(); ++i)
        require(found[0][i]->equals(*found[1][i]), "norm: threads change the result");
    require(!call.ordinary() || found[0][0]->finite(), "norm: not finite");
}

void fuzz_draws(const Call& call) {
    const bool is_double = one_in(2), gamma = one_in(2), radius = one_in(2);
    const std::unique_ptr<int64_t> seed(new int64_t((int64_t)generator()));
    Buffer log_radius(true, call.rows), shape(true, call.batch);
    for (int64_t k = 0; k < call.rows; ++k) log_radius.set(k, uniform(-69, 69));
    for (int64_t k = 0; k < call.batch; ++k) shape.set(k, a_parameter(call.wrong));
    std::unique_ptr<Buffer> nested[2], log_gamma[2];
    for (int k = 0; k < 2; ++k) {
        const Arguments x = call.given(k ? on_threads : nullptr);
        nested[k].reset(new Buffer(is_double, call.rows * call.tree.dim));
        log_gamma[k].reset(new Buffer(true, call.rows));
        if (!call.rows) return;
        require(
            !lpnested_draw_nested(
                x.parallel_for, x.structure, call.rows, call.batch, x.is_double, x.exponents,
                x.exponents_batch_stride, x.exponents_stride, x.dim.data, x.dim.stride,
                gamma ? x.exponent.data : nullptr, x.exponent.stride,
                gamma ? x.scale.data : nullptr, x.scale.stride,
                !gamma && radius ? (double*)log_radius.data() : nullptr, seed.get(), is_double,
                nested[k]->data()),
            "draw_nested: no memory");
        require(
            !lpnested_draw_log_gamma(
                x.parallel_for, call.rows, call.batch, (double*)shape.data(), seed.get(), is_double,
                (double*)log_gamma[k]->data()),
            "draw_log_gamma: no memory");
    }
    require(nested[0]->equals(*nested[1]), "draw_nested: threads change the result");
    require(log_gamma[0]->equals(*log_gamma[1]), "draw_log_gamma: threads change the result");
    require(call.wrong || log_gamma[0]->finite(), "draw_log_gamma: not finite");
}

}  // namespace

int main(int count, char** arguments) {
    require(count == 3, "usage: fuzz SEED ROUNDS");
    require(!lpnested_use("none of them"), "use: a name that there is not");
    require(strlen(lpnested_source()) > 0, "source: empty");
    const int64_t rounds = atoll(arguments[2]);
    for (const char* name : {"avx512", "avx2", "neon"}) {
        if (!lpnested_use(name)) continue;
        generator.seed(atoll(arguments[1]));
        for (int64_t k = 0; k < rounds; ++k) {
            const Call call;
            fuzz_density(call);
            fuzz_norm(call);
            fuzz_draws(call);
        }
        printf("%s: %lld rounds\n", name, (long long)rounds);
    }
    return 0;
}
