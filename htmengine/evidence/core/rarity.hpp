// SPDX-License-Identifier: MIT
// How rare a statistic's height is, by its own past: the return period of its peaks.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>

#include "constants.hpp"
#include "finding.hpp"

namespace evidence {

// Keeps the highest peaks, one an event.  A height that a of them reached returns every rows / (a + 1) rows; beyond
// the highest the tail is exponential.  (Peaks over a threshold, declustered: Davison and Smith 1990.)
class Rarity {
 public:
  // Decades of the next row's height; then learns it.  Heights that differ by `rounding` at most are equal.
  double update(double height, double rounding = 0.0) {
    uint32_t row = rows_++;
    if (row % kForgetEvery == 0 && row >= kMemoryRows) forget_before(row - kMemoryRows);
    bool is_peak = count_ >= kLeastPeaks && height > lowest() + rounding;
    double decades = is_peak ? return_period(height, rounding) : 0.0;
    learn(height, rounding, row);
    return std::min(decades, kCap);
  }

  void save(Writer& out) const {
    out.varint(rows_);
    out.number(static_cast<uint8_t>(count_));
    for (unsigned i = 0; i < count_; ++i) {
      out.real(heights_[i]);
      out.varint(rows_ - at_[i]);
    }
  }

  void restore(Reader& in) {
    rows_ = in.varint();
    count_ = in.number_to<uint8_t>(kPeaks, "more peaks than are kept");
    for (unsigned i = 0; i < count_; ++i) {
      heights_[i] = finite(in);
      uint32_t age = in.varint();
      require(age <= rows_ && (i == 0 || heights_[i] <= heights_[i - 1]), "peaks out of order");
      at_[i] = rows_ - age;
    }
    find_newest();
  }

 private:
  double highest() const { return heights_[0]; }
  double lowest() const { return heights_[count_ - 1]; }

  double return_period(double height, double rounding) const {
    double seen = std::min(rows_, kMemoryRows);
    if (height <= highest() + rounding) return std::log10(seen / (peaks_from(height - rounding) + 1));
    double scale = std::max({kTailShare * mean_excess(), 1e-9 * std::fabs(highest()), rounding, kLeastScale});
    return std::log10(seen) + (height - highest()) / scale / kLog10;
  }

  unsigned peaks_from(double height) const {
    unsigned count = 0;
    while (count < count_ && heights_[count] >= height) ++count;
    return count;
  }

  double mean_excess() const {
    double sum = 0.0;
    for (unsigned i = 0; i < count_; ++i) sum += heights_[i] - lowest();
    return sum / (count_ - 1);
  }

  // A row of the newest event can only raise it.
  void learn(double height, double rounding, uint32_t row) {
    if (count_ > 0 && row - at_[newest_] <= kEventRows) {
      if (height <= heights_[newest_] + rounding) return;
      remove(newest_);
    } else if (count_ == kPeaks) {
      if (height <= lowest() + rounding) return;
      --count_;
    }
    insert(height, row);
  }

  void remove(unsigned place) {
    std::copy(heights_ + place + 1, heights_ + count_, heights_ + place);
    std::copy(at_ + place + 1, at_ + count_, at_ + place);
    --count_;
  }

  // Among equals the newer comes last.
  void insert(double height, uint32_t row) {
    unsigned place = count_++;
    for (; place > 0 && heights_[place - 1] < height; --place) {
      heights_[place] = heights_[place - 1];
      at_[place] = at_[place - 1];
    }
    heights_[place] = height;
    at_[place] = row;
    newest_ = place;
  }

  void forget_before(uint32_t row) {
    unsigned kept = 0;
    for (unsigned i = 0; i < count_; ++i) {
      if (at_[i] < row) continue;
      heights_[kept] = heights_[i];
      at_[kept++] = at_[i];
    }
    count_ = kept;
    find_newest();
  }

  void find_newest() { newest_ = static_cast<unsigned>(std::max_element(at_, at_ + count_) - at_); }

  static constexpr double kLog10 = 2.302585092994045684;
  static constexpr double kLeastScale = std::numeric_limits<double>::min();  // it divides

  double heights_[kPeaks] = {};  // highest first
  uint32_t at_[kPeaks] = {};     // the row of each
  uint32_t rows_ = 0;
  unsigned count_ = 0;
  unsigned newest_ = 0;  // place of the newest peak
};

// Both sides of a statistic.
class TwoSided {
 public:
  Finding update(double height, double rounding = 0.0) {
    Finding finding;
    finding.take(up_.update(height, rounding), Side::up);
    finding.take(down_.update(-height, rounding), Side::down);
    return finding;
  }

  void save(Writer& out) const {
    up_.save(out);
    down_.save(out);
  }

  void restore(Reader& in) {
    up_.restore(in);
    down_.restore(in);
  }

 private:
  Rarity up_, down_;
};

}  // namespace evidence
