// SPDX-License-Identifier: MIT
// The SDR classifier: predicts the value some rows ahead from the cells that are active now.  For each number of
// steps a softmax regression, learnt online, from cells to the buckets of the value encoder.
#pragma once

#include <algorithm>
#include <cmath>
#include <map>

#include "cells.hpp"
#include "encoders.hpp"
#include "history.hpp"
#include "serialize.hpp"

namespace htm {

struct ClassifierParams {
  double alpha = 0.035828933612157998;  // learning rate
  std::vector<unsigned> steps = {1};    // rows ahead, ascending
  double act_value_alpha = 0.3;         // weight of a new value in the average that a bucket stands for
};

struct Prediction {
  double value, probability;
};

// e to the power of x, for x <= 0: the same bytes on every machine, which the C library does not promise.
inline double deterministic_exp(double x) {
  if (x < -700) return 0;
  constexpr double kLn2 = 0.693147180559945309417;
  int doublings = static_cast<int>(std::floor(x / kLn2 + 0.5));
  double rest = x - doublings * kLn2, term = 1, sum = 1;
  for (int i = 1; i < 14; ++i) sum += term *= rest / i;
  return std::ldexp(sum, doublings);
}

class Classifier {
 public:
  explicit Classifier(const ClassifierParams& params)
      : params_(params), history_(params.steps.back() + 1), weights_(params.steps.size()) {}

  // One row: its active cells, its value and the value's bucket (kNoBucket: a missing value).
  void row(const Cells& cells, double value, unsigned bucket, bool learning) {
    history_.push(cells);
    if (!learning || bucket == ValueEncoder::kNoBucket || !std::isfinite(value)) return;
    unsigned known = class_of(bucket, value);
    for (size_t s = 0; s < params_.steps.size(); ++s)
      if (history_.size() > params_.steps[s])
        learn(weights_[s], history_[history_.size() - 1 - params_.steps[s]], known);
  }

  // The most probable values after params.steps[step] rows, best first: at most 8, none below 1 in 10,000.
  std::vector<Prediction> predict(size_t step) const {
    std::vector<Prediction> found;
    if (history_.size() == 0 || values_.empty()) return found;
    std::vector<double> probabilities;
    distribution(weights_[step], history_.newest(), probabilities);
    for (size_t known = 0; known < values_.size(); ++known)
      if (probabilities[known] >= 1e-4) found.push_back({values_[known], probabilities[known]});
    std::stable_sort(found.begin(), found.end(),
                     [](const Prediction& a, const Prediction& b) { return a.probability > b.probability; });
    if (found.size() > 8) found.resize(8);
    return found;
  }

  size_t bytes() const {
    size_t total = sizeof *this + history_.bytes() + buckets_.capacity() * 2 + values_.capacity() * sizeof(double);
    for (const Weights& weights : weights_)
      for (const auto& entry : weights) total += 64 + entry.second.capacity() * sizeof(float);
    return total;
  }

  void save(Writer& out) const {
    out.packed(buckets_);
    for (double value : values_) out.real(value);
    history_.save(out);
    for (const Weights& weights : weights_) {
      Cells cells;
      for (const auto& entry : weights) cells.push_back(entry.first);
      out.ascending(cells);
      for (const auto& entry : weights) {
        out.number(static_cast<uint16_t>(entry.second.size()));
        for (float weight : entry.second) out.real32(weight);
      }
    }
  }

  void restore(Reader& in) {
    buckets_ = in.packed(65535, 65534, "classifier buckets");
    std::vector<uint16_t> sorted = buckets_;
    std::sort(sorted.begin(), sorted.end());
    require(std::adjacent_find(sorted.begin(), sorted.end()) == sorted.end(), "classifier buckets");
    values_.resize(buckets_.size());
    for (double& value : values_) {
      value = in.real();
      require(std::isfinite(value), "classifier values");
    }
    history_.restore(in, kMaxCells);
    for (Weights& weights : weights_)
      for (uint16_t cell : in.ascending(kMaxCells, kMaxCells - 1, "classifier cells")) {
        std::vector<float>& row = weights[cell];
        row.resize(in.number_to<uint16_t>(buckets_.size(), "classifier weights"));
        for (float& weight : row) {
          weight = in.real32();
          require(std::isfinite(weight), "classifier weights");
        }
      }
  }

 private:
  // By cell: a weight for each class (bucket seen so far), fewer where later classes have none yet.
  using Weights = std::map<uint16_t, std::vector<float>>;

  // The place of the bucket among those seen so far, whose value moves towards this one.
  unsigned class_of(unsigned bucket, double value) {
    auto found = std::find(buckets_.begin(), buckets_.end(), bucket);
    if (found == buckets_.end()) {
      buckets_.push_back(static_cast<uint16_t>(bucket));
      values_.push_back(value);
      return static_cast<unsigned>(buckets_.size() - 1);
    }
    double& average = values_[static_cast<size_t>(found - buckets_.begin())];
    average += params_.act_value_alpha * (value - average);
    return static_cast<unsigned>(found - buckets_.begin());
  }

  void distribution(const Weights& weights, const Cells& cells, std::vector<double>& probabilities) const {
    probabilities.assign(values_.size(), 0.0);
    for (uint16_t cell : cells) {
      auto row = weights.find(cell);
      if (row == weights.end()) continue;
      for (size_t known = 0; known < row->second.size(); ++known)
        probabilities[known] += static_cast<double>(row->second[known]);
    }
    double largest = *std::max_element(probabilities.begin(), probabilities.end());
    double sum = 0;
    for (double& p : probabilities) sum += p = deterministic_exp(p - largest);
    for (double& p : probabilities) p /= sum;
  }

  // One step of gradient descent: the weights of these cells move by alpha times (target - probability).
  void learn(Weights& weights, const Cells& cells, unsigned target) {
    distribution(weights, cells, errors_);
    for (size_t known = 0; known < errors_.size(); ++known)
      errors_[known] = params_.alpha * ((known == target ? 1.0 : 0.0) - errors_[known]);
    for (uint16_t cell : cells) {
      std::vector<float>& row = weights[cell];
      row.resize(errors_.size(), 0.0f);
      for (size_t known = 0; known < row.size(); ++known) row[known] += static_cast<float>(errors_[known]);
    }
  }

  ClassifierParams params_;
  History history_;                //: active cells of the newest rows
  std::vector<uint16_t> buckets_;  //: by class
  std::vector<double> values_;     //: by class: average of the values that fell into its bucket
  std::vector<Weights> weights_;   //: by place in params.steps
  std::vector<double> errors_;
};

}  // namespace htm
