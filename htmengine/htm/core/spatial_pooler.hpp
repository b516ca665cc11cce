// SPDX-License-Identifier: MIT
// The spatial pooler (Cui, Ahmad, Hawkins 2017): input bits to the columns that fit them best; global inhibition,
// no boosting.  Columns start from permanences that all models of the same parameters share; a model keeps only how
// those that have learnt differ.
#pragma once

#include <algorithm>

#include "cells.hpp"
#include "encoders.hpp"
#include "initial_pool.hpp"
#include "learnt_columns.hpp"
#include "overlap_planes.hpp"
#include "serialize.hpp"
#include "shared.hpp"

namespace htm {

class SpatialPooler {
 public:
  explicit SpatialPooler(const SpatialPoolerParams& params)
      : params_(params),
        initial_(shared_table<InitialPool>(params)),
        learnt_(*initial_, params),
        up_(step(params.increment)),
        down_(step(params.decrement)) {}

  // The winning columns for these input bits, ascending; with `learning` they learn when their turn has come.
  void compute(const Bits& on, bool learning, Columns& winners) {
    Scratch& scratch = of_this_thread();
    overlap(on, scratch);
    scratch.planes.greatest(params_.active_columns, params_.columns, learnt_.columns(), winners);
    if (learning && ++rows_ % params_.learn_every == 0) learn(on, winners, scratch);
  }

  // How many connected inputs of each column are on.
  std::vector<unsigned> overlaps(const Bits& on) {
    Scratch& scratch = of_this_thread();
    overlap(on, scratch);
    std::vector<unsigned> all;
    for (unsigned column = 0; column < params_.columns; ++column)
      all.push_back(scratch.planes.get(learnt_.has(column) ? 64 * initial_->words() + learnt_.place(column) : column));
    return all;
  }

  // A column's permanences by input, in ten-thousandths; -1 outside its pool.
  std::vector<int16_t> permanences(unsigned column) const {
    Permanences all;
    learnt_.read(column, all);
    all.resize(params_.inputs);
    return all;
  }

  void set_permanence(unsigned column, unsigned input, int permanence) {
    Permanences before, now;
    learnt_.read(column, before);
    now = before;
    now[input] = static_cast<int16_t>(permanence);
    learnt_.write(column, learnt_.fallen(column), before, now);
  }

  unsigned learnt_columns() const { return static_cast<unsigned>(learnt_.columns().size()); }
  size_t bytes() const { return sizeof *this + learnt_.bytes(); }

  // Each learnt column's changes since the beginning, which are few different numbers: how often it learnt with the
  // input on, and how often with the input off.
  void save(Writer& out) const {
    out.number(rows_);
    Columns columns = learnt_.columns();
    std::sort(columns.begin(), columns.end());
    out.ascending(columns);
    std::vector<uint16_t> changes;
    Permanences now;
    for (uint16_t column : columns) {
      learnt_.read(column, now);
      const int16_t* initial = initial_->permanences(column);
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
    Permanences before, now;
    for (uint16_t column : in.ascending(params_.columns, params_.columns - 1, "pooler columns")) {
      std::vector<uint16_t> changes = in.packed(params_.inputs, 65535, "pooler permanences");
      learnt_.read(column, before);
      now = before;
      size_t next = 0;
      for (unsigned input = 0; input < params_.inputs; ++input) {
        if (before[input] == kOutsidePool) continue;
        require(next < changes.size(), "pooler permanences");
        now[input] = changed(before[input], changes[next++]);
        require(now[input] >= 0 && now[input] <= kPermanenceOne, "pooler permanences");
      }
      require(next == changes.size(), "pooler permanences");
      learnt_.write(column, learnt_.likely_fallen(column, now), before, now);
    }
  }

 private:
  static constexpr uint16_t kToZero = 0x8000, kToOne = 0x7FFF;  // no differences of permanences

  struct Scratch {
    OverlapPlanes planes;
    std::vector<int16_t> change;  //: by input
    Permanences before, now;
  };

  static Scratch& of_this_thread() {
    static thread_local Scratch scratch;
    return scratch;
  }

  int16_t step(double per_row) const {
    return static_cast<int16_t>(
        std::min(pooler_units(per_row) * static_cast<int64_t>(params_.learn_every), int64_t{kPermanenceOne}));
  }

  // Of all columns as if none had learnt, and then of those that have.
  void overlap(const Bits& on, Scratch& scratch) const {
    scratch.planes.reset(initial_->words() + learnt_.words(), static_cast<unsigned>(on.size()));
    add(on, *initial_, 0, scratch);
    add(on, learnt_, initial_->words(), scratch);
  }

  template <class AllColumns>
  void add(const Bits& on, const AllColumns& columns, unsigned first_word, Scratch& scratch) const {
    for (size_t first = 0; first < on.size(); first += 7) {
      const uint64_t* seven[7];
      for (size_t i = 0; i < 7; ++i)
        seven[i] = columns.connected_to(first + i < on.size() ? on[first + i] : params_.inputs);
      scratch.planes.add(first_word, columns.words(), seven);
    }
  }

  // The winners move towards the input: their permanences of inputs that are on rise, the others fall.
  void learn(const Bits& on, const Columns& winners, Scratch& scratch) {
    scratch.change.assign(params_.inputs, static_cast<int16_t>(-down_));
    for (uint16_t input : on) scratch.change[input] = up_;
    for (uint16_t column : winners) {
      learnt_.read(column, scratch.before);
      scratch.now = scratch.before;
      for (unsigned input = 0, inputs = params_.inputs; input < inputs; ++input)
        scratch.now[input] = moved(scratch.now[input], scratch.change[input]);
      learnt_.write(column, learnt_.fallen(column) + down_, scratch.before, scratch.now);
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

  SpatialPoolerParams params_;
  std::shared_ptr<const InitialPool> initial_;
  LearntColumns learnt_;
  int16_t up_, down_;  // in ten-thousandths
  uint32_t rows_ = 0;  // learnt from, or passed over until the next turn to learn
};

}  // namespace htm
