// SPDX-License-Identifier: MIT
// The spatial pooler's columns as a new model has them: one table for all models of the same parameters.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "random.hpp"

namespace htm {

struct SpatialPoolerParams {
  unsigned inputs = 454;
  unsigned columns = 2048;
  unsigned active_columns = 40;
  double potential_pct = 0.8;  // share of the inputs that a column can ever see
  double connected = 0.2;
  double increment = 0.003;
  double decrement = 0.0005;
  unsigned learn_every = 4;  // rows; with that many times the increment and decrement
  uint64_t seed = 1956;

  bool operator==(const SpatialPoolerParams& o) const {
    return inputs == o.inputs && columns == o.columns && active_columns == o.active_columns &&
           potential_pct == o.potential_pct && connected == o.connected && increment == o.increment &&
           decrement == o.decrement && learn_every == o.learn_every && seed == o.seed;
  }
};

// Permanences of the pooler are whole ten-thousandths.
constexpr int kPermanenceOne = 10000;
constexpr int kPermanenceTrim = 15;   // weaker ones become 0, but stay in the pool
constexpr int16_t kOutsidePool = -1;  // an input that the column never sees

inline int pooler_units(double permanence) { return static_cast<int>(std::lround(permanence * kPermanenceOne)); }

// The columns as a new model has them.
class InitialPool {
 public:
  explicit InitialPool(const SpatialPoolerParams& params)
      : inputs_(params.inputs), column_words_((params.columns + 63) / 64) {
    unsigned pool = static_cast<unsigned>(std::lround(params.potential_pct * inputs_));
    unsigned connected = static_cast<unsigned>(pooler_units(params.connected));
    Random random(params.seed);
    permanences_.assign(size_t{params.columns} * inputs_, kOutsidePool);
    connected_.assign((inputs_ + 1) * column_words_, 0);
    std::vector<uint16_t> order(inputs_);
    for (unsigned column = 0; column < params.columns; ++column) {
      for (unsigned input = 0; input < inputs_; ++input) order[input] = static_cast<uint16_t>(input);
      random.choose(order, pool);
      for (unsigned i = 0; i < pool; ++i) {
        unsigned permanence = initial_permanence(random, connected);
        permanences_[size_t{column} * inputs_ + order[i]] = static_cast<int16_t>(permanence);
        if (permanence >= connected) connected_[order[i] * column_words_ + column / 64] |= uint64_t{1} << column % 64;
      }
    }
  }

  const int16_t* permanences(unsigned column) const { return &permanences_[size_t{column} * inputs_]; }

  // The columns that are connected to an input, one bit each; to input number `inputs`, none.
  const uint64_t* connected_to(unsigned input) const { return &connected_[input * column_words_]; }
  unsigned words() const { return column_words_; }

 private:
  // Connected or not with equal chance, and anywhere on that side.
  static unsigned initial_permanence(Random& random, unsigned connected) {
    bool above = random.below(2) == 1 && connected < kPermanenceOne;
    unsigned permanence =
        above ? connected + random.below(kPermanenceOne - connected) : random.below(std::max(connected, 1u));
    return permanence < kPermanenceTrim ? 0 : permanence;
  }

  unsigned inputs_, column_words_;
  std::vector<int16_t> permanences_;  //: by column, then input
  std::vector<uint64_t> connected_;   //: by input, then 64 columns a word
};

}  // namespace htm
