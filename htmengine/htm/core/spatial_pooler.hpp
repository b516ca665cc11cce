// SPDX-License-Identifier: MIT
// The spatial pooler (Cui, Ahmad, Hawkins 2017): input bits to the columns that fit them best; global inhibition,
// no boosting.  Columns start from permanences that all models of the same parameters share; a model owns only the
// columns that have learnt.
#pragma once

#include <algorithm>
#include <cmath>

#include "cells.hpp"
#include "encoders.hpp"
#include "random.hpp"
#include "serialize.hpp"
#include "shared.hpp"

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
  unsigned column_words() const { return column_words_; }

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

// Overlaps of all columns at once, in binary digits: plane p holds digit p of every column's number.
class OverlapPlanes {
 public:
  void reset(unsigned words, unsigned largest) {
    words_ = words;
    digits_ = bits_for(largest);
    planes_.assign(size_t{digits_} * words, 0);
    addend_.assign(size_t{4} * words, 0);
    carry_.resize(words);
  }

  // Adds seven bitmaps: carry-save adders make of them numbers of three digits, which are added to the planes.
  void add(const uint64_t* const in[7]) {
    for (unsigned w = 0; w < words_; ++w) {
      auto [a, a2] = full_adder(in[0][w], in[1][w], in[2][w]);
      auto [b, b2] = full_adder(in[3][w], in[4][w], in[5][w]);
      auto [ones, c2] = full_adder(a, b, in[6][w]);
      auto [twos, fours] = full_adder(a2, b2, c2);
      addend_[w] = ones;
      addend_[words_ + w] = twos;
      addend_[2 * words_ + w] = fours;
      carry_[w] = 0;
    }
    for (unsigned digit = 0; digit < digits_; ++digit) {
      const uint64_t* addend = &addend_[std::min(digit, 3u) * words_];  // the fourth digit and on are 0
      uint64_t* plane = &planes_[digit * words_];
      for (unsigned w = 0; w < words_; ++w) {
        auto [sum, carry] = full_adder(plane[w], addend[w], carry_[w]);
        plane[w] = sum;
        carry_[w] = carry;
      }
    }
  }

  void set(unsigned column, unsigned overlap) {
    uint64_t bit = uint64_t{1} << column % 64;
    uint64_t* plane = &planes_[column / 64];
    for (unsigned digit = 0; digit < digits_; ++digit, plane += words_)
      *plane = (*plane & ~bit) | (bit & (uint64_t{0} - (overlap >> digit & 1)));
  }

  unsigned get(unsigned column) const {
    unsigned overlap = 0;
    for (unsigned digit = 0; digit < digits_; ++digit)
      overlap |= static_cast<unsigned>(planes_[digit * words_ + column / 64] >> column % 64 & 1) << digit;
    return overlap;
  }

  // The `wanted` columns of greatest overlap, ascending; among equals the highest numbers win.
  void greatest(unsigned wanted, unsigned columns, Columns& winners) {
    candidates_.assign(words_, ~uint64_t{0});
    if (columns % 64) candidates_.back() = (uint64_t{1} << columns % 64) - 1;
    chosen_.assign(words_, 0);
    for (unsigned digit = digits_; digit-- > 0;) {
      const uint64_t* plane = &planes_[digit * words_];
      unsigned with = 0;
      for (unsigned w = 0; w < words_; ++w) with += popcount(candidates_[w] & plane[w]);
      bool enough = with >= wanted;
      for (unsigned w = 0; w < words_; ++w) {
        chosen_[w] |= enough ? 0 : candidates_[w] & plane[w];
        candidates_[w] &= enough ? plane[w] : ~plane[w];
      }
      if (!enough) wanted -= with;
    }
    for (unsigned w = words_; wanted > 0 && w-- > 0;)
      for (; wanted > 0 && candidates_[w]; --wanted) {
        uint64_t top = uint64_t{1} << highest_bit(candidates_[w]);
        chosen_[w] |= top;
        candidates_[w] ^= top;
      }
    winners.clear();
    for (unsigned w = 0; w < words_; ++w)
      for (uint64_t rest = chosen_[w]; rest; rest &= rest - 1)
        winners.push_back(static_cast<uint16_t>(w * 64 + lowest_bit(rest)));
  }

 private:
  static std::pair<uint64_t, uint64_t> full_adder(uint64_t x, uint64_t y, uint64_t z) {
    uint64_t half = x ^ y;
    return {half ^ z, (x & y) | (half & z)};
  }

  unsigned words_ = 0, digits_ = 0;
  std::vector<uint64_t> planes_, addend_, carry_, candidates_, chosen_;
};

class SpatialPooler {
 public:
  explicit SpatialPooler(const SpatialPoolerParams& params)
      : params_(params),
        initial_(shared_table<InitialPool>(params)),
        input_words_((params.inputs + 63) / 64),
        connected_(static_cast<int16_t>(pooler_units(params.connected))),
        up_(step(params.increment)),
        down_(step(params.decrement)),
        place_(params.columns, 0) {}

  // The winning columns for these input bits, ascending; with `learning` they learn when their turn has come.
  void compute(const Bits& on, bool learning, Columns& winners) {
    Scratch& scratch = of_this_thread();
    overlap(on, scratch);
    scratch.planes.greatest(params_.active_columns, params_.columns, winners);
    if (learning && ++rows_ % params_.learn_every == 0) learn(on, winners, scratch);
  }

  // How many connected inputs of each column are on.
  std::vector<unsigned> overlaps(const Bits& on) {
    Scratch& scratch = of_this_thread();
    overlap(on, scratch);
    std::vector<unsigned> all;
    for (unsigned column = 0; column < params_.columns; ++column) all.push_back(scratch.planes.get(column));
    return all;
  }

  // A column's permanences by input, in ten-thousandths; -1 outside its pool.
  const int16_t* permanences(unsigned column) const {
    return place_[column] ? &owned_[size_t{place_[column] - 1u} * params_.inputs] : initial_->permanences(column);
  }

  void set_permanence(unsigned column, unsigned input, int permanence) {
    own(column)[input] = static_cast<int16_t>(permanence);
    refresh_connected(column);
  }

  unsigned inputs() const { return params_.inputs; }
  unsigned owned_columns() const { return static_cast<unsigned>(owned_columns_.size()); }

  size_t bytes() const {
    return sizeof *this + place_.capacity() * sizeof(uint16_t) + owned_columns_.capacity() * sizeof(uint16_t) +
           owned_.capacity() * sizeof(int16_t) + owned_connected_.capacity() * sizeof(uint64_t);
  }

  // Each owned column's changes since the beginning, which are few different numbers: how often it learnt with the
  // input on, and how often with the input off.
  void save(Writer& out) const {
    out.number(rows_);
    Columns columns = owned_columns_;
    std::sort(columns.begin(), columns.end());
    out.ascending(columns);
    std::vector<uint16_t> changes;
    for (uint16_t column : columns) {
      const int16_t *now = permanences(column), *initial = initial_->permanences(column);
      changes.resize(params_.inputs);
      size_t pool = 0;
      for (unsigned input = 0; input < params_.inputs; ++input) {  // no branch that depends on the permanence
        changes[pool] = change(initial[input], now[input]);
        pool += initial[input] != kOutsidePool;
      }
      changes.resize(pool);
      out.packed(changes);
    }
  }

  void restore(Reader& in) {
    rows_ = in.number<uint32_t>();
    Columns columns = in.ascending(params_.columns, params_.columns - 1, "pooler columns");
    owned_columns_.reserve(columns.size());
    owned_.reserve(columns.size() * params_.inputs);
    owned_connected_.reserve(columns.size() * input_words_);
    for (uint16_t column : columns) {
      std::vector<uint16_t> changes = in.packed(params_.inputs, 65535, "pooler permanences");
      size_t next = 0;
      int16_t* permanences = own(column);
      for (unsigned input = 0; input < params_.inputs; ++input) {
        if (permanences[input] == kOutsidePool) continue;
        require(next < changes.size(), "pooler permanences");
        permanences[input] = changed(permanences[input], changes[next++]);
        require(permanences[input] >= 0 && permanences[input] <= kPermanenceOne, "pooler permanences");
      }
      require(next == changes.size(), "pooler permanences");
      refresh_connected(column);
    }
  }

 private:
  static constexpr uint16_t kToZero = 0x8000, kToOne = 0x7FFF;  // no differences of permanences

  struct Scratch {
    OverlapPlanes planes;
    std::vector<uint64_t> on;     // the input bits as a bitmap
    std::vector<int16_t> change;  // by input
  };

  static Scratch& of_this_thread() {
    static thread_local Scratch scratch;
    return scratch;
  }

  int16_t step(double per_row) const {
    return static_cast<int16_t>(
        std::min(pooler_units(per_row) * static_cast<int64_t>(params_.learn_every), int64_t{kPermanenceOne}));
  }

  // All columns as if none had learnt, then the owned ones again.
  void overlap(const Bits& on, Scratch& scratch) const {
    scratch.planes.reset(initial_->column_words(), static_cast<unsigned>(on.size()));
    scratch.on.assign(input_words_, 0);
    for (uint16_t input : on) scratch.on[input / 64] |= uint64_t{1} << input % 64;
    for (size_t first = 0; first < on.size(); first += 7) {
      const uint64_t* seven[7];
      for (size_t i = 0; i < 7; ++i)
        seven[i] = initial_->connected_to(first + i < on.size() ? on[first + i] : params_.inputs);
      scratch.planes.add(seven);
    }
    const uint64_t* connected = owned_connected_.data();
    for (uint16_t column : owned_columns_) {
      unsigned overlap = 0;
      for (unsigned w = 0; w < input_words_; ++w) overlap += popcount(connected[w] & scratch.on[w]);
      scratch.planes.set(column, overlap);
      connected += input_words_;
    }
  }

  // The winners move towards the input: their permanences of inputs that are on rise, the others fall.
  void learn(const Bits& on, const Columns& winners, Scratch& scratch) {
    scratch.change.assign(params_.inputs, static_cast<int16_t>(-down_));
    for (uint16_t input : on) scratch.change[input] = up_;
    for (uint16_t column : winners) {
      int16_t* permanences = own(column);
      for (unsigned input = 0; input < params_.inputs; ++input)
        permanences[input] = moved(permanences[input], scratch.change[input]);
      refresh_connected(column);
    }
  }

  // From one permanence to another as a number: most are the difference, but where a permanence met its limit this
  // would be a different one for each.
  static uint16_t change(int16_t before, int16_t after) {
    if (before == after) return 0;
    if (after == 0) return kToZero;
    if (after == kPermanenceOne) return kToOne;
    return static_cast<uint16_t>(after - before);
  }

  static int16_t changed(int16_t before, uint16_t change) {
    if (change == kToZero) return 0;
    if (change == kToOne) return kPermanenceOne;
    return static_cast<int16_t>(static_cast<uint16_t>(before) + change);
  }

  static int16_t moved(int16_t permanence, int16_t change) {
    int16_t sum = static_cast<int16_t>(permanence + change);
    int16_t most = sum > kPermanenceOne ? int16_t{kPermanenceOne} : sum;
    int16_t trimmed = most < kPermanenceTrim ? int16_t{0} : most;
    return permanence == kOutsidePool ? kOutsidePool : trimmed;
  }

  // The column's own permanences, copied from the initial ones when it first learns.
  int16_t* own(unsigned column) {
    if (place_[column] == 0) {
      if (owned_columns_.size() == owned_columns_.capacity()) {
        size_t room = std::min<size_t>(owned_columns_.size() + owned_columns_.size() / 16 + 8, params_.columns);
        owned_columns_.reserve(room);
        owned_.reserve(room * params_.inputs);
        owned_connected_.reserve(room * input_words_);
      }
      const int16_t* initial = initial_->permanences(column);
      owned_columns_.push_back(static_cast<uint16_t>(column));
      owned_.insert(owned_.end(), initial, initial + params_.inputs);
      owned_connected_.resize(owned_connected_.size() + input_words_);
      place_[column] = static_cast<uint16_t>(owned_columns_.size());
    }
    return &owned_[size_t{place_[column] - 1u} * params_.inputs];
  }

  void refresh_connected(unsigned column) {
    const int16_t* permanence = permanences(column);
    uint64_t* words = &owned_connected_[size_t{place_[column] - 1u} * input_words_];
    std::fill_n(words, input_words_, uint64_t{0});
    unsigned input = 0;
    for (; input + 16 <= params_.inputs; input += 16)
      words[input / 64] |= uint64_t{connected_of_16(permanence + input)} << input % 64;
    for (; input < params_.inputs; ++input)
      words[input / 64] |= uint64_t{permanence[input] >= connected_} << input % 64;
  }

  // Which of 16 permanences are connected, a bit each: a loop that compilers make into a few vector instructions.
  uint16_t connected_of_16(const int16_t* permanence) const {
    static constexpr uint16_t kBits[16] = {0x0001, 0x0002, 0x0004, 0x0008, 0x0010, 0x0020, 0x0040, 0x0080,
                                           0x0100, 0x0200, 0x0400, 0x0800, 0x1000, 0x2000, 0x4000, 0x8000};
    uint16_t bits = 0;
    for (unsigned i = 0; i < 16; ++i) bits |= permanence[i] >= connected_ ? kBits[i] : uint16_t{0};
    return bits;
  }

  SpatialPoolerParams params_;
  std::shared_ptr<const InitialPool> initial_;
  unsigned input_words_;
  int16_t connected_, up_, down_;  // in ten-thousandths
  uint32_t rows_ = 0;              // learnt from, or passed over until the next turn to learn

  std::vector<uint16_t> place_;            //: by column: 1 + its place among the owned ones, 0 if it never learnt
  Columns owned_columns_;                  //: in the order they first learnt
  std::vector<int16_t> owned_;             //: by owned column, then input: permanence
  std::vector<uint64_t> owned_connected_;  //: by owned column, then 64 inputs a word: connected
};

}  // namespace htm
