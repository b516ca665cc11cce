// SPDX-License-Identifier: MIT
// The anomaly likelihood: how unusual is the recent average of raw scores, for this metric?
// (Lavin and Ahmad 2015; Ahmad, Lavin, Purdy and Agha 2017.)
#pragma once

#include <deque>
#include <limits>

#include "constants.hpp"
#include "raw_scores.hpp"

namespace evidence {

// The distribution while there is no better one: every average is near its middle.
constexpr double kNullMean = 0.5, kNullVariance = 1e6;
// Values that vary less than this are flat, where the encoder's resolution is not known.
constexpr double kFlatVariance = 1.5e-5;
// Below this tail a row is red; the rows after it, while they stay red, get the yellow one.
constexpr double kRed = 1e-5, kYellow = 0.001;
// Share of the range seen so far by which a value must leave it to count as outside.
constexpr double kRangeTolerance = 0.05;
// Blocks that the window's values are summed up in.
constexpr int64_t kValueBlocks = 32;

// Rows, mean and sum of squared deviations of some values.
struct Moments {
  uint32_t rows = 0;
  double mean = 0.0, squares = 0.0;

  void add(double value) {
    double next = mean + (value - mean) / ++rows;
    squares += (value - mean) * (value - next);
    mean = next;
  }

  Moments merged(const Moments& other) const {
    uint32_t all = rows + other.rows;
    if (all == 0) return *this;
    double distance = other.mean - mean;
    return {all, mean + distance * other.rows / all,
            squares + other.squares + distance * distance * rows * other.rows / all};
  }

  void save(Writer& out) const {
    out.number(rows);
    out.real(mean);
    out.real(squares);
  }

  static Moments restored(Reader& in) {
    Moments moments;
    moments.rows = in.number<uint32_t>();
    moments.mean = in.real();
    moments.squares = in.real();
    return moments;
  }
};

class Likelihood {
 public:
  explicit Likelihood(const LikelihoodParams& params) : params_(params), raw_(params) { params_.check(); }

  const RawScores& raw_scores() const { return raw_; }
  const LikelihoodParams& params() const { return params_; }
  void set_range_rule(bool range_rule) { params_.range_rule = range_rule; }

  // Take a row's raw score; then its likelihood and its evidence can be asked for, and `learn` ends it.
  void put(uint8_t count) { raw_.put(count); }

  // The anomaly score of the newest row; a value that is NaN is within every range.
  double score(double value) const {
    if (raw_.rows() + 1 <= params_.min_sample) return 0.0;
    return params_.range_rule && leaves_range(value) ? 1.0 : 1.0 - tail();
  }

  void learn(double value) {
    if (std::isfinite(value)) {
      if (raw_.rows() >= params_.skip) learn_value(value);
      minimum_ = std::min(minimum_, value);
      maximum_ = std::max(maximum_, value);
    }
    raw_.learn();
  }

  size_t bytes() const { return raw_.bytes() + blocks_.size() * sizeof(Moments); }

  // Head and blocks of format 1; the counts follow them.
  void save(Writer& out) const {
    for (char c : {'H', 'T', 'M', 'A'}) out.number(static_cast<uint8_t>(c));
    out.number(uint8_t{1});
    out.number(static_cast<uint8_t>(params_.active_columns));
    out.number(static_cast<uint8_t>(params_.range_rule));
    out.number(static_cast<uint8_t>(params_.single_precision));
    out.number(static_cast<uint32_t>(params_.window));
    out.number(static_cast<uint32_t>(params_.skip));
    out.number(static_cast<uint32_t>(params_.min_sample));
    out.number(static_cast<uint32_t>(params_.min_averages));
    out.real(params_.resolution);
    out.number(raw_.rows());
    out.real(minimum_);
    out.real(maximum_);
    out.number(static_cast<int64_t>(raw_.sum()));
    out.number(static_cast<int64_t>(raw_.squares()));
    out.number(static_cast<int64_t>(raw_.squares() >> 64));
    out.number(static_cast<uint32_t>(blocks_.size()));
    for (const Moments& block : blocks_) block.save(out);
    block_.save(out);
  }

  // What `save` wrote, and the counts.
  static Likelihood restored(Reader& in, const uint8_t* counts, size_t size) {
    for (char c : {'H', 'T', 'M', 'A'}) require(in.number<uint8_t>() == static_cast<uint8_t>(c), "no likelihood");
    require(in.number<uint8_t>() == 1, "a likelihood of another version");
    Likelihood likelihood(params_from(in));
    int64_t rows = in.number<int64_t>();
    require(rows >= 0 && rows < int64_t{1} << 48, "an impossible number of rows");
    likelihood.minimum_ = in.real();
    likelihood.maximum_ = in.real();
    Wide sum = in.number<int64_t>();
    uint64_t low = in.number<uint64_t>();
    Wide squares = Wide{in.number<int64_t>()} * (Wide{1} << 64) + low;
    uint32_t blocks = in.number<uint32_t>();
    require(blocks <= kValueBlocks + 1, "too many blocks");
    for (uint32_t i = 0; i < blocks; ++i) likelihood.blocks_.push_back(Moments::restored(in));
    likelihood.block_ = Moments::restored(in);
    likelihood.merge_blocks();
    likelihood.raw_.restore(rows, sum, squares, counts, size);
    return likelihood;
  }

 private:
  static LikelihoodParams params_from(Reader& in) {
    LikelihoodParams params;
    params.active_columns = in.number<uint8_t>();
    params.range_rule = in.number<uint8_t>() != 0;
    params.single_precision = in.number<uint8_t>() != 0;
    params.window = in.number<uint32_t>();
    params.skip = in.number<uint32_t>();
    params.min_sample = in.number<uint32_t>();
    params.min_averages = in.number<uint32_t>();
    params.resolution = in.real();
    try {
      params.check();
    } catch (const std::invalid_argument& error) {
      refuse(error.what());
    }
    return params;
  }

  // The upper tail of the newest row's average; only the first red row of a run stays red.
  double tail() const {
    bool known = raw_.averages() >= params_.min_averages && !is_flat();
    double mean = known ? raw_.mean() : kNullMean;
    double deviation = std::sqrt(known ? raw_.variance() : kNullVariance);
    double tail = RawScores::upper_tail(raw_.average(), mean, deviation);
    if (tail <= kRed && raw_.rows() > 0 && RawScores::upper_tail(raw_.average_before(), mean, deviation) <= kRed)
      return kYellow;
    return tail;
  }

  bool is_flat() const {
    // The variance of values spread evenly over one bucket, which the encoder cannot tell apart.
    double least = params_.resolution > 0 ? params_.resolution * params_.resolution / 12 : kFlatVariance;
    double squares = least * (static_cast<double>(merged_.rows) + block_.rows);
    if (merged_.squares + block_.squares >= squares) return false;  // the merger's can only be more
    return merged_.merged(block_).squares < squares;
  }

  bool leaves_range(double value) const {
    double tolerance = kRangeTolerance * (maximum_ - minimum_);
    if (!(tolerance > 0)) return false;  // no value yet, or only one
    return value > maximum_ + tolerance || value < minimum_ - tolerance;
  }

  void learn_value(double value) {
    int64_t block_rows = (params_.window + kValueBlocks - 1) / kValueBlocks;
    block_.add(value);
    if (block_.rows < block_rows) return;
    blocks_.push_back(block_);
    if (static_cast<int64_t>(blocks_.size()) * block_rows > params_.window) blocks_.pop_front();
    block_ = {};
    merge_blocks();
  }

  void merge_blocks() {
    merged_ = {};
    for (const Moments& block : blocks_) merged_ = merged_.merged(block);
  }

  LikelihoodParams params_;
  RawScores raw_;
  double minimum_ = std::numeric_limits<double>::infinity();
  double maximum_ = -std::numeric_limits<double>::infinity();
  std::deque<Moments> blocks_;  // the values after the skipped rows: whole blocks, oldest first,
  Moments merged_, block_;      // their merger, and the block that is being filled
};

// How unexpected the model finds the last rows: the likelihood's tail in decades, no red row thinned out.
inline double sequence_decades(const RawScores& raw) {
  if (raw.averages() < kSequenceLeast) return kSequenceUnknown;
  double tail = RawScores::upper_tail(raw.average(), raw.mean(), std::sqrt(raw.variance()));
  return std::min(std::fabs(std::log10(std::max(tail, 1e-30))), kCap);
}

}  // namespace evidence
