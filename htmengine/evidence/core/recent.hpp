// SPDX-License-Identifier: MIT
// The last values since the last gap, and moments of them that advance by one step a row.
#pragma once

#include "constants.hpp"
#include "exact_sum.hpp"
#include "finding.hpp"

namespace evidence {

class Recent {
 public:
  void put(double value) {
    place_ = place_ + 1 == kRoom ? 0 : place_ + 1;
    ring_[place_] = value;
    ++rows_;
    magnitude_ = std::max(std::fabs(value), kMagnitudeKept * magnitude_);
  }

  void gap() {
    rows_ = 0;
    after_gap_ = true;
  }

  // Values since the last gap.
  uint32_t rows() const { return rows_; }

  // Whether the last `size` values are without a gap.  Before the first gap a window may still fill.
  bool reaches(uint32_t size) const { return !after_gap_ || rows_ >= size; }

  // The value of so many rows ago, up to kLongest.
  double back(unsigned rows) const { return ring_[place_ >= rows ? place_ - rows : place_ + kRoom - rows]; }

  // The sum of `count` values that end so many rows ago, the newest first: equal rows give equal sums.
  double sum(unsigned count, unsigned rows = 0) const {
    double sum = 0.0;
    for (unsigned i = 0; i < count; ++i) sum += back(rows + i);
    return sum;
  }

  // The standard deviation of the last `count` values, seen from the newest: it is 0 if they are equal.
  double deviation(unsigned count) const {
    double sum = 0.0, squares = 0.0;
    for (unsigned i = 1; i < count; ++i) sum += back(i) - back(0);
    double mean = sum / count;
    for (unsigned i = 0; i < count; ++i) squares += (back(i) - back(0) - mean) * (back(i) - back(0) - mean);
    return std::sqrt(squares / count);
  }

  // Differences up to this are those of rounding: the metric's unit does not decide what is equal.
  double rounding() const { return kRounding * magnitude_; }

  void save(Writer& out) const {
    out.varint(rows_);
    out.number(static_cast<uint8_t>(after_gap_));
    out.real(magnitude_);
    for (unsigned i = kept(); i-- > 0;) out.real(back(i));
  }

  void restore(Reader& in) {
    rows_ = in.varint();
    after_gap_ = in.number_to<uint8_t>(1, "neither yes nor no");
    magnitude_ = finite(in);
    require(magnitude_ >= 0.0, "a negative magnitude");
    for (unsigned i = kept(); i > 0; --i) {
      place_ = place_ + 1 == kRoom ? 0 : place_ + 1;
      ring_[place_] = finite(in);
    }
  }

 private:
  static constexpr unsigned kRoom = kLongest + 1;  // one more: the value that leaves the longest window
  unsigned kept() const { return rows_ < kLongest ? rows_ : kLongest; }

  double ring_[kRoom] = {};
  unsigned place_ = 0;  // of the newest
  uint32_t rows_ = 0;
  bool after_gap_ = false;
  double magnitude_ = 0.0;  // of the values lately
};

// Mean of the last `size` values, of fewer at first.  Once a round the sum is made from the values, so that it does not
// drift.
class WindowMean {
 public:
  double update(const Recent& recent, unsigned size) {
    uint32_t rows = recent.rows();
    sum_ += recent.back(0) - (rows > size ? recent.back(size) : 0.0);
    if (rows % size == 0) {
      ExactSum exact;
      for (unsigned i = 0; i < size; ++i) exact.add(recent.back(i));
      sum_ = exact.rounded();
    }
    return sum_ / (rows < size ? rows : size);
  }

  void clear() { sum_ = 0.0; }
  void save(Writer& out) const { out.real(sum_); }
  void restore(Reader& in) { sum_ = finite(in); }

 private:
  double sum_ = 0.0;
};

// Mean and variance of all values so far (Welford 1962).
class Welford {
 public:
  void update(double value) {
    ++rows_;
    double distance = value - mean_;
    mean_ += distance / rows_;
    squares_ += distance * (value - mean_);
  }

  uint32_t rows() const { return rows_; }
  double mean() const { return mean_; }
  double variance() const { return rows_ ? squares_ / rows_ : 0.0; }

  void save(Writer& out) const {
    out.varint(rows_);
    out.real(mean_);
    out.real(squares_);
  }

  void restore(Reader& in) {
    rows_ = in.varint();
    mean_ = finite(in);
    squares_ = finite(in);
    require(squares_ >= 0.0, "a negative variance");
  }

 private:
  uint32_t rows_ = 0;
  double mean_ = 0.0, squares_ = 0.0;
};

}  // namespace evidence
