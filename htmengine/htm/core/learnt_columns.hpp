// SPDX-License-Identifier: MIT
// The pooler's columns that have learnt, as they differ from the initial ones.  Most inputs have never been on when a
// column learnt: their permanences have fallen alike, so that one number tells them all, and only the others are kept.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <vector>
#ifdef __SSE2__
#include <emmintrin.h>
#endif

#include "cells.hpp"
#include "initial_pool.hpp"
#include "lists.hpp"

namespace htm {

// A column's permanences by input, filled up with kOutsidePool to whole words of 64.
using Permanences = std::vector<int16_t>;

class LearntColumns {
 public:
  LearntColumns(const InitialPool& initial, const SpatialPoolerParams& params)
      : initial_(initial),
        inputs_(params.inputs),
        input_words_((params.inputs + 63) / 64),
        connected_permanence_(static_cast<int16_t>(pooler_units(params.connected))),
        place_(params.columns, 0) {}

  // In the order they first learnt; the place of one in this order.
  const Columns& columns() const { return columns_; }
  bool has(unsigned column) const { return place_[column] != 0; }
  unsigned place(unsigned column) const { return place_[column] - 1u; }

  // Those that are connected to an input, one bit each in the order of columns(); to input number `inputs`, none.
  const uint64_t* connected_to(unsigned input) const { return connected_.data() + size_t{input} * words_; }
  unsigned words() const { return words_; }

  // How far permanences have fallen where the input was never on.
  int16_t fallen(unsigned column) const { return has(column) ? fallen_[place(column)] : int16_t{0}; }

  // Any column's permanences, whether it has learnt or not.
  void read(unsigned column, Permanences& permanences) const {
    fade(initial_.permanences(column), fallen(column), permanences);
    if (!has(column)) return;
    const int16_t* kept = kept_.begin(place(column));
    const uint64_t* differs = &differs_[size_t{place(column)} * input_words_];
    for_each_bit(differs, [&](unsigned input) { permanences[input] = *kept++; });
  }

  // The column has learnt: its permanences were `before` and are `now`.  Any `fallen` is right; the one that says it of
  // most inputs takes the least memory.
  void write(unsigned column, int fallen, const Permanences& before, const Permanences& now) {
    unsigned place = own(column);
    fallen_[place] = static_cast<int16_t>(std::min(fallen, kPermanenceOne));
    keep(place, initial_.permanences(column), now);
    for (unsigned w = 0; w < input_words_; ++w)
      for (uint64_t rest = changed(&before[w * 64], &now[w * 64]); rest; rest &= rest - 1)
        flip(w * 64 + lowest_bit(rest), place);
  }

  // What write() should be told of permanences whose past is not known: what is on falls less.
  int likely_fallen(unsigned column, const Permanences& now) const {
    const int16_t* initial = initial_.permanences(column);
    int fallen = 0;
    for (unsigned input = 0; input < inputs_; ++input)
      fallen = std::max(fallen, now[input] > 0 ? initial[input] - now[input] : initial[input] - kPermanenceTrim + 1);
    return fallen;
  }

  size_t bytes() const {
    return (place_.capacity() + columns_.capacity() + fallen_.capacity()) * sizeof(uint16_t) +
           (differs_.capacity() + connected_.capacity()) * sizeof(uint64_t) + kept_.bytes();
  }

 private:
  using Lanes = int16_t __attribute__((vector_size(16)));  // one vector instruction for eight permanences

  static Lanes lanes_at(const int16_t* first) {
    Lanes lanes;
    std::memcpy(&lanes, first, sizeof lanes);
    return lanes;
  }

  // A bit for each of 16 lanes that hold true, which is -1, not 0.
  static uint64_t bits_of(Lanes truths, Lanes others) {
#ifdef __SSE2__
    return static_cast<uint64_t>(_mm_movemask_epi8(_mm_packs_epi16(__m128i(truths), __m128i(others))));
#else
    constexpr Lanes kBits = {1, 2, 4, 8, 16, 32, 64, 128};
    Lanes bits = (truths & kBits) | (others & kBits << 8);
    uint64_t halves[2];
    std::memcpy(halves, &bits, sizeof halves);
    uint64_t all = halves[0] | halves[1];
    all |= all >> 32;
    return (all | all >> 16) & 0xFFFF;
#endif
  }

  // A bit for each of 64 permanences of which this holds, which is asked of the lanes from the i-th on.
  template <class Holds>
  static uint64_t bits_where(Holds holds) {
    uint64_t bits = 0;
    for (unsigned i = 0; i < 64; i += 16) bits |= bits_of(holds(i), holds(i + 8)) << i;
    return bits;
  }

  // Of 64 inputs those that were connected and are not, or the other way round.
  uint64_t changed(const int16_t* before, const int16_t* now) const {
    return bits_where([=, limit = connected_permanence_](unsigned i) {
      return (lanes_at(before + i) >= limit) ^ (lanes_at(now + i) >= limit);
    });
  }

  // Of 64 permanences those that differ.
  static uint64_t different(const int16_t* some, const int16_t* others) {
    return bits_where([=](unsigned i) { return lanes_at(some + i) != lanes_at(others + i); });
  }

  // Permanences whose inputs were never on.
  void fade(const int16_t* initial, int16_t fallen, Permanences& faded) const {
    faded.resize(size_t{64} * input_words_);
    std::fill(faded.begin() + inputs_, faded.end(), kOutsidePool);
    int16_t* permanences = faded.data();
    for (unsigned input = 0, inputs = inputs_; input < inputs; ++input) {
      int16_t left = static_cast<int16_t>(initial[input] - fallen);
      int16_t trimmed = left < kPermanenceTrim ? int16_t{0} : left;
      permanences[input] = initial[input] == kOutsidePool ? kOutsidePool : trimmed;
    }
  }

  template <class Visit>
  void for_each_bit(const uint64_t* words, Visit visit) const {
    for (unsigned w = 0; w < input_words_; ++w)
      for (uint64_t rest = words[w]; rest; rest &= rest - 1) visit(w * 64 + lowest_bit(rest));
  }

  // The permanences that differ from what has fallen alike.
  void keep(unsigned place, const int16_t* initial, const Permanences& now) {
    static thread_local Permanences faded;
    fade(initial, fallen_[place], faded);
    uint64_t* differs = &differs_[size_t{place} * input_words_];
    unsigned count = 0;
    for (unsigned w = 0; w < input_words_; ++w) {
      differs[w] = different(&now[w * 64], &faded[w * 64]);
      count += popcount(differs[w]);
    }
    kept_.resize(place, count);
    int16_t* kept = kept_.begin(place);
    for_each_bit(differs, [&](unsigned input) { *kept++ = now[input]; });
  }

  void flip(unsigned input, unsigned place) {
    connected_[size_t{input} * words_ + place / 64] ^= uint64_t{1} << place % 64;
  }

  // The column's place; one that has not learnt yet gets one, with its initial permanences.
  unsigned own(unsigned column) {
    if (has(column)) return place(column);
    unsigned place = static_cast<unsigned>(columns_.size());
    make_room();
    columns_.push_back(static_cast<uint16_t>(column));
    fallen_.push_back(0);
    differs_.resize(differs_.size() + input_words_);
    kept_.add();
    place_[column] = static_cast<uint16_t>(columns_.size());
    const int16_t* initial = initial_.permanences(column);
    for (unsigned input = 0; input < inputs_; ++input)
      if (initial[input] >= connected_permanence_) flip(input, place);
    return place;
  }

  void make_room() {
    if (columns_.size() == columns_.capacity()) {
      size_t room = std::min(columns_.size() + columns_.size() / 16 + 8, place_.size());
      columns_.reserve(room);
      fallen_.reserve(room);
      differs_.reserve(room * input_words_);
    }
    if (columns_.size() == size_t{64} * words_) widen();
  }

  // Room for 64 columns more in connected_.
  void widen() {
    std::vector<uint64_t> wider((size_t{inputs_} + 1) * (words_ + 1), 0);
    for (unsigned input = 0; input < inputs_; ++input)
      std::copy_n(connected_to(input), words_, &wider[size_t{input} * (words_ + 1)]);
    connected_.swap(wider);
    ++words_;
  }

  const InitialPool& initial_;
  unsigned inputs_, input_words_, words_ = 0;
  int16_t connected_permanence_;

  std::vector<uint16_t> place_;      //: by column: 1 + its place among those that have learnt, 0 if it never has
  Columns columns_;                  //: by place
  std::vector<int16_t> fallen_;      //: by place
  std::vector<uint64_t> differs_;    //: by place, then 64 inputs a word: those whose permanences are kept
  Lists<int16_t> kept_;              //: by place: permanences
  std::vector<uint64_t> connected_;  //: by input, then 64 places a word
};

}  // namespace htm
