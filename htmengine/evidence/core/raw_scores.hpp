// SPDX-License-Identifier: MIT
// The model's raw scores of the window's rows, and the sums of their 10-row averages: the likelihood and the sequence's
// evidence have them in common.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <vector>

#include "finding.hpp"

namespace evidence {

__extension__ typedef __int128 Wide;

constexpr int64_t kAverage = 10;  // rows whose raw scores are averaged
constexpr double kLeastMean = 0.03;
constexpr double kLeastVariance = 0.0003;
constexpr int64_t kLargestWindow = int64_t{1} << 20;  // rows: the sums stay within 128 bits

// The quotient of two numbers of at most 120 bits, neither negative, rounded once.
inline double quotient(Wide dividend, Wide divisor) {
  constexpr Wide kExact = Wide{1} << 53;
  if (dividend <= 0) return 0.0;
  if (dividend <= kExact && divisor <= kExact) return static_cast<double>(dividend) / static_cast<double>(divisor);
  int exponent = 0;
  while (dividend >= divisor) {  // to a quotient in [1/2, 1)
    divisor <<= 1;
    ++exponent;
  }
  while (dividend << 1 < divisor) {
    dividend <<= 1;
    --exponent;
  }
  uint64_t bits = 0;
  for (int bit = 0; bit < 55; ++bit) {
    dividend <<= 1;
    bool one = dividend >= divisor;
    if (one) dividend -= divisor;
    bits = bits << 1 | one;
  }
  bits = bits << 1 | (dividend != 0);  // what is left decides only between two neighbours
  return std::ldexp(static_cast<double>(bits), exponent - 56);
}

struct LikelihoodParams {
  unsigned active_columns = 40;
  bool range_rule = true;
  double resolution = 0.0;  // 0: not known
  int64_t window = 8640;
  int64_t skip = 288;
  int64_t min_sample = 100;
  int64_t min_averages = 100;
  bool single_precision = false;

  void check() const {
    if (active_columns < 1 || active_columns > 255)
      throw std::invalid_argument("active_columns: " + std::to_string(active_columns) + " is not from 1 to 255");
    if (skip < kAverage - 1 || min_sample < 0 || min_averages < 1 || min_averages > window)
      throw std::invalid_argument("needed are skip >= 9, min_sample >= 0 and 1 <= min_averages <= window");
    if (window > kLargestWindow || skip > UINT32_MAX || min_sample > UINT32_MAX)
      throw std::invalid_argument("window: at most 1048576 rows; skip and min_sample: less than 2 ** 32");
    if (!(resolution >= 0 && std::isfinite(resolution)))
      throw std::invalid_argument("resolution: not a number above 0");
  }
};

// A raw score is a count of columns over their number, so all sums are whole numbers: nothing drifts.
class RawScores {
 public:
  explicit RawScores(const LikelihoodParams& p)
      : active_columns_(p.active_columns), single_precision_(p.single_precision), window_(p.window), skip_(p.skip) {}

  // The columns that a raw score stands for.  Throws std::invalid_argument for one that is no share of them.
  uint8_t count_of(double raw) const {
    double count = raw >= 0.0 && raw <= 1.0 ? std::nearbyint(raw * active_columns_) : -1.0;
    if (count < 0 || std::fabs(count / active_columns_ - raw) > 1e-6)
      throw std::invalid_argument("raw: " + std::to_string(raw) + " is not a share of " +
                                  std::to_string(active_columns_) + " columns");
    return static_cast<uint8_t>(count);
  }

  // Take the next row; `learn` ends it.
  void put(uint8_t count) {
    size_t place = static_cast<size_t>(rows_ % capacity());
    if (place == counts_.size())
      append(counts_, count, static_cast<size_t>(capacity()));
    else
      counts_[place] = count;
    ten_rows_ = ten_row_sum(rows_);
    before_ = average_;
    average_ = average_of(rows_);
  }

  void learn() {
    if (rows_ >= skip_) add(ten_rows_, 1);
    int64_t leaving = rows_ - window_;
    if (leaving >= skip_) add(ten_row_sum(leaving), -1);
    ++rows_;
  }

  int64_t rows() const { return rows_; }       // learnt
  double average() const { return average_; }  // of the newest 10 rows
  double average_before() const { return before_; }

  // Averages in the window, before the newest row; their mean and variance, not below the least ones.
  int64_t averages() const { return rows_ - std::max(skip_, rows_ - window_); }
  double mean() const { return std::max(kLeastMean, quotient(sum_, unit())); }
  double variance() const {
    return std::max(kLeastVariance, quotient(averages() * squares_ - sum_ * sum_, unit() * unit()));
  }

  // Probability that a normal value of this mean and deviation exceeds the average.
  static double upper_tail(double average, double mean, double deviation) {
    return 0.5 * std::erfc((average - mean) / deviation / std::sqrt(2.0));
  }

  Wide sum() const { return sum_; }
  Wide squares() const { return squares_; }

  // The counts that are kept, oldest first.
  std::string counts() const {
    auto oldest = counts_.begin() + static_cast<std::ptrdiff_t>(oldest_place());
    std::string ordered(oldest, counts_.end());
    ordered.append(counts_.begin(), oldest);
    return ordered;
  }

  void restore(int64_t rows, Wide sum, Wide squares, const uint8_t* counts, size_t size) {
    rows_ = rows;
    sum_ = sum;
    squares_ = squares;
    require(size == static_cast<size_t>(std::min(rows_, capacity())), "not as many raw scores as rows");
    require(std::all_of(counts, counts + size, [&](uint8_t count) { return count <= active_columns_; }),
            "a raw score above 1");
    Wide most = kAverage * scale(), averages = std::max<int64_t>(this->averages(), 0);
    require(sum >= 0 && sum <= averages * most, "an impossible sum of raw scores");
    require(squares >= 0 && squares <= averages * most * most, "an impossible sum of squares");
    size_t newest = size - oldest_place();
    counts_.assign(counts, counts + size);
    std::rotate(counts_.begin(), counts_.begin() + static_cast<std::ptrdiff_t>(newest), counts_.end());
    if (rows_ > 0) {
      ten_rows_ = ten_row_sum(rows_ - 1);
      average_ = average_of(rows_ - 1);
    }
  }

  size_t bytes() const { return counts_.capacity(); }

 private:
  int64_t capacity() const { return window_ + kAverage; }  // rows that the oldest average reaches back to
  Wide scale() const { return single_precision_ ? int64_t{1} << 31 : active_columns_; }
  Wide unit() const { return averages() * kAverage * scale(); }
  size_t oldest_place() const { return rows_ > capacity() ? static_cast<size_t>(rows_ % capacity()) : 0; }

  // A raw score in units of 1 / scale; NuPIC's are 4-byte floats, which are multiples of 2^-31.
  int64_t units(uint8_t count) const {
    if (!single_precision_) return count;
    float share = static_cast<float>(static_cast<double>(count) / active_columns_);
    return static_cast<int64_t>(std::ldexp(static_cast<double>(share), 31));
  }

  // Raw scores of the 10 rows up to this one, of fewer at first.
  int64_t ten_row_sum(int64_t row) const {
    int64_t rows = std::min(row + 1, kAverage), sum = 0;
    int64_t place = (row - rows + 1) % capacity();
    for (; rows > 0; --rows) {
      sum += units(counts_[static_cast<size_t>(place)]);
      if (++place == capacity()) place = 0;
    }
    return sum;
  }

  double average_of(int64_t row) const {
    return static_cast<double>(ten_rows_) / static_cast<double>(std::min(row + 1, kAverage) * scale());
  }

  void add(int64_t ten_rows, int sign) {
    sum_ += sign * ten_rows;
    squares_ += sign * (Wide{ten_rows} * ten_rows);
  }

  unsigned active_columns_;
  bool single_precision_;
  int64_t window_, skip_;
  int64_t rows_ = 0;
  std::vector<uint8_t> counts_;  // active columns that were not expected; row r stands at r modulo the capacity
  Wide sum_ = 0, squares_ = 0;   // of the window's 10-row sums
  int64_t ten_rows_ = 0;         // of the newest row
  double average_ = 0.0, before_ = 0.0;
};

}  // namespace evidence
