#include "tests/model/made_up/made_up_reference.hpp"

#include <cmath>
#include <string>

#include "weights/weight_source.hpp"

namespace flexgen::test {
namespace {

using Vector = std::vector<double>;
using Matrix = std::vector<Vector>;  // [rows][cols]

Matrix tensor(const std::string& key, std::int64_t rows, std::int64_t cols, float center = 0) {
  WeightSpec weight;
  weight.rows = rows;
  weight.cols = cols;
  weight.sources = {{{key}, rows * cols}};
  weight.random_center = center;
  weight.random_scale = 0.06F;
  std::vector<float> values(static_cast<std::size_t>(rows * cols));
  const WeightPiece piece{&weight, 0, rows * cols, reinterpret_cast<std::byte*>(values.data())};
  make_random_source()->make_reader()->produce({&piece, 1}, DType::float32);
  Matrix matrix;
  for (auto row = values.begin(); row != values.end(); row += cols) matrix.emplace_back(row, row + cols);
  return matrix;
}

Vector product(const Matrix& matrix, const Vector& x) {
  Vector out;
  for (const Vector& row : matrix) {
    double sum = 0;
    for (std::size_t c = 0; c < x.size(); ++c) sum += row[c] * x[c];
    out.push_back(sum);
  }
  return out;
}

void add(Vector& x, const Vector& more) {
  for (std::size_t i = 0; i < x.size(); ++i) x[i] += more[i];
}

Vector normed(const Vector& x, const std::string& name) {
  const auto size = static_cast<std::int64_t>(x.size());
  const Vector gamma = tensor(name + ".weight", 1, size, 1).front();
  const Vector beta = tensor(name + ".bias", 1, size).front();
  double mean = 0;
  double variance = 0;
  for (const double value : x) mean += value / static_cast<double>(size);
  for (const double value : x) variance += (value - mean) * (value - mean) / static_cast<double>(size);
  Vector out;
  for (std::size_t i = 0; i < x.size(); ++i)
    out.push_back((x[i] - mean) / std::sqrt(variance + 1e-3) * gamma[i] + beta[i]);
  return out;
}

// One head of the last of these queries, keys and values, [position][q, k, v of all heads].
void attend(const Matrix& qkv, std::size_t width, std::size_t first, std::size_t size, Vector& out) {
  Vector weights;
  double sum = 0;
  for (const Vector& position : qkv) {
    double score = 0;
    for (std::size_t i = first; i < first + size; ++i) score += qkv.back()[i] * position[width + i];
    weights.push_back(std::exp(score / std::sqrt(static_cast<double>(size))));
    sum += weights.back();
  }
  for (std::size_t p = 0; p < qkv.size(); ++p)
    for (std::size_t i = first; i < first + size; ++i) out[i] += weights[p] / sum * qkv[p][2 * width + i];
}

Vector thought(const ModelSpec& model, const std::string& floor, const Vector& x) {
  const std::int64_t width = model.mlp.width;
  Vector inner = product(tensor(floor + "think.up.weight", width, model.hidden), normed(x, floor + "think.norm"));
  add(inner, tensor(floor + "think.up.bias", 1, width).front());
  for (double& value : inner) value *= 0.5 * (1 + std::erf(value / std::sqrt(2.0)));
  Vector out = product(tensor(floor + "think.down.weight", model.hidden, width), inner);
  add(out, tensor(floor + "think.down.bias", 1, model.hidden).front());
  return out;
}

// Both sublayers read what came in.
void climb(const ModelSpec& model, const std::string& floor, Matrix& hidden) {
  const std::int64_t width = model.hidden;
  const Matrix in = tensor(floor + "look.in.weight", 3 * width, width);
  const Matrix out = tensor(floor + "look.out.weight", width, width);
  const auto size = static_cast<std::size_t>(model.attention.head_size);
  Matrix qkv;
  for (Vector& x : hidden) {
    qkv.push_back(product(in, normed(x, floor + "look.norm")));
    Vector seen(x.size());
    for (std::size_t first = 0; first < x.size(); first += size) attend(qkv, x.size(), first, size, seen);
    const Vector more = thought(model, floor, x);
    add(x, product(out, seen));
    add(x, more);
  }
}

}  // namespace

std::vector<double> made_up_logits(const ModelSpec& model, const std::vector<std::int32_t>& tokens) {
  const Matrix words = tensor("trunk.words.weight", model.vocab, model.hidden);
  const Matrix places = tensor("trunk.places.weight", model.max_positions, model.hidden);
  Matrix hidden;
  for (std::size_t p = 0; p < tokens.size(); ++p) {
    hidden.push_back(words[static_cast<std::size_t>(tokens[p])]);
    add(hidden.back(), places[p]);
  }
  for (std::int32_t i = 0; i < model.num_layers; ++i) climb(model, "trunk.floor." + std::to_string(i) + ".", hidden);
  return product(tensor("mouth.weight", model.vocab, model.hidden), normed(hidden.back(), "trunk.roof"));
}

}  // namespace flexgen::test
