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
  }

  void clear() { rows_ = 0; }

  // Values since the last gap.
  uint32_t rows() const { return rows_; }

  // The value of so many rows ago, up to kLongest.
  double back(unsigned rows) const { return ring_[place_ >= rows ? place_ - rows : place_ + kRoom - rows]; }

  void save(Writer& out) const {
    out.varint(rows_);
    for (unsigned i = kept(); i-- > 0;) out.real(back(i));
  }

  void restore(Reader& in) {
    uint32_t rows = in.varint();
    rows_ = rows;
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
};

// Mean of f(value) over the last `size` values, of fewer at first.  Once a round the sum is made from the values, so
// that it does not drift.
class WindowMean {
 public:
  template <class F>
  double update(const Recent& recent, unsigned size, F f) {
    uint32_t rows = recent.rows();
    sum_ += f(recent.back(0)) - (rows > size ? f(recent.back(size)) : 0.0);
    if (rows % size == 0) {
      ExactSum exact;
      for (unsigned i = 0; i < size; ++i) exact.add(f(recent.back(i)));
      sum_ = exact.rounded();
    }
    return sum_ / (rows < size ? rows : size);
  }

  double sum() const { return sum_; }
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
