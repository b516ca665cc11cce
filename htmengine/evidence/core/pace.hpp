// SPDX-License-Identifier: MIT
// The metric's step, its gaps, and what its step does to evidence.
#pragma once

#include <algorithm>
#include <cmath>

#include "constants.hpp"
#include "finding.hpp"

namespace evidence {

// "Once in a thousand rows" is once in 3.5 days at 5 minutes and once in 6 weeks at an hour.  A page costs per week, a
// test is made per row: half the decades between the two units.
class Pace {
 public:
  // Whether the rows have another step from now on.
  bool update(int64_t timestamp) {
    bool changed = begun_ && count_ == kIntervals && is_other(timestamp - last_);
    if (changed) start_again(timestamp);
    if (begun_ && count_ < kIntervals) {
      intervals_[count_++] = timestamp - last_;
      measure();
    }
    begun_ = true;
    last_ = timestamp;
    return changed;
  }

  bool is_in_doubt() const { return others_ >= kDoubt; }
  bool has_changed() const { return has_changed_; }
  int64_t changed_at() const { return changed_at_; }  // the last time
  int64_t last() const { return last_; }

  double step() const { return step_; }  // seconds from row to row

  // Faster rows are judged on means of five minutes: seconds from one judged value to the next.
  bool is_fast() const { return step_ < kBin; }
  double value_step() const { return is_fast() ? kBin : step_; }

  double shifted(double decades) const {
    return decades > kPaceFrom ? std::min(std::max(decades + shift_, 0.0), kCap) : decades;
  }

  void save(Writer& out) const {
    out.number(static_cast<uint8_t>(begun_));
    out.number(last_);
    out.number(static_cast<uint8_t>(count_));
    for (unsigned i = 0; i < count_; ++i) out.number(intervals_[i]);
    out.number(other_);
    out.number(static_cast<uint8_t>(others_));
    out.number(static_cast<uint8_t>(has_changed_));
    out.number(changed_at_);
  }

  void restore(Reader& in) {
    begun_ = in.number_to<uint8_t>(1, "neither yes nor no");
    last_ = timestamp_from(in);
    count_ = in.number_to<uint8_t>(kIntervals, "too many intervals");
    for (unsigned i = 0; i < count_; ++i) {
      intervals_[i] = in.number<int64_t>();
      require(std::abs(intervals_[i] / 2) <= kLatest, "an impossible interval");
    }
    if (count_ > 0) measure();
    other_ = in.number<int64_t>();
    require(std::abs(other_ / 2) <= kLatest, "an impossible interval");
    others_ = in.number_to<uint8_t>(kNewSteps, "too many intervals of another step");
    has_changed_ = in.number_to<uint8_t>(1, "neither yes nor no");
    changed_at_ = timestamp_from(in);
  }

  static int64_t timestamp_from(Reader& in) {
    int64_t timestamp = in.number<int64_t>();
    require(timestamp >= -kLatest && timestamp <= kLatest, "an impossible time");
    return timestamp;
  }

 private:
  static bool alike(int64_t interval, double step) {
    double seconds = static_cast<double>(interval);
    return seconds > 0.5 * step && seconds < 1.5 * step;
  }

  // Whether enough intervals lately were alike, but not like the step: lost rows and jitter are no other step.
  bool is_other(int64_t interval) {
    if (!alike(interval, step_) && (others_ == 0 || alike(interval, static_cast<double>(other_)))) {
      if (others_ == 0) other_ = interval;
      return ++others_ >= kNewSteps;
    }
    others_ -= std::min(others_, kMisfit);
    return false;
  }

  void start_again(int64_t timestamp) {
    count_ = others_ = 0;
    has_changed_ = true;
    changed_at_ = timestamp;
  }

  // The median of the intervals so far, at least a second.
  void measure() {
    int64_t sorted[kIntervals];
    std::copy(intervals_, intervals_ + count_, sorted);
    std::sort(sorted, sorted + count_);
    int64_t below = sorted[(count_ - 1) / 2], above = sorted[count_ / 2];
    double median = (static_cast<double>(below) + static_cast<double>(above)) / 2;
    step_ = std::max(1.0, median);
    shift_ = kPaceExponent * std::log10(value_step() / kUsualStep);
  }

  bool begun_ = false;
  int64_t last_ = 0;
  unsigned count_ = 0;
  int64_t intervals_[kIntervals] = {};
  double step_ = kUsualStep, shift_ = 0.0;
  int64_t other_ = 0;    // an interval unlike the step
  unsigned others_ = 0;  // that were like it
  bool has_changed_ = false;
  int64_t changed_at_ = 0;
};

}  // namespace evidence
