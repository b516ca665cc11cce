// SPDX-License-Identifier: MIT
// All evidence of one metric, the one score that it gives, and the height of a page.
#pragma once

#include <array>
#include <optional>
#include <utility>

#include "bin.hpp"
#include "jump.hpp"
#include "level.hpp"
#include "likelihood.hpp"
#include "run.hpp"
#include "season.hpp"
#include "shape.hpp"
#include "spread.hpp"

namespace evidence {

// One of each kind; kinds.py has their names.  Those before kFused make the score, the others may page alone.
enum Kind : unsigned {
  kLevelKinds = 0,
  kSpreadKind = 4,
  kShapeKind,
  kSeasonBounds,
  kSeasonDeviation,
  kSeasonLevelKind,
  kSequence,
  kFused,
  kRunKind = kFused,
  kAwayKind,
  kJumpKind,
  kKinds,
};

using Findings = std::array<Finding, kKinds>;

// What a row's value was expected to be, and the band around it.
struct Expected {
  double value, low, high;
};

class Detector {
 public:
  // The likelihood may know the sequence already.  A silence of more than `gap_steps` steps is a gap.
  // Throws std::invalid_argument unless that is above 0; infinity: there are no gaps.
  explicit Detector(const Likelihood& likelihood, double gap_steps = kGapSteps)
      : gap_steps_(gap_steps), likelihood_(likelihood) {
    if (!(gap_steps > 0.0)) throw std::invalid_argument("gap_steps: must be above 0");
  }

  // Throws std::invalid_argument for a row that cannot be.
  void check(int64_t timestamp, double raw) const {
    if (timestamp < -kLatest || timestamp > kLatest)
      throw std::invalid_argument("timestamp: " + std::to_string(timestamp) + " is not within 2 ** 42 seconds of 1970");
    likelihood_.raw_scores().count_of(raw);
  }

  // The score of a checked row; `findings` and `likelihood` are of it then.
  double update(int64_t timestamp, double value, double raw) {
    if (pace_.update(timestamp)) start_again();
    findings_ = {};
    judge_sequence(value, raw);
    remember_expected(timestamp);
    if (std::isfinite(value)) value = within_reach(value);
    if (pace_.is_fast()) {
      fill_bin(timestamp, value);
    } else {
      close_bin();
      newest_judged_ = std::isfinite(value);
      if (newest_judged_) judge_value(timestamp, value);
    }
    if (is_settling()) findings_ = {};
    fuse();
    return score_;
  }

  const Findings& findings() const { return findings_; }
  double score() const { return score_; }
  double height() const { return height_; }  // of a page
  double likelihood() const { return likelihood_score_; }
  double step() const { return pace_.value_step(); }
  double interval() const { return pace_.step(); }
  // When rows got the interval that they have, if they had another one before.
  std::optional<int64_t> changed_at() const {
    return pace_.has_changed() ? std::optional(pace_.changed_at()) : std::nullopt;
  }
  double paced(double decades) const { return pace_.shifted(decades); }
  int64_t rows() const { return likelihood_.raw_scores().rows(); }  // also those without a value
  uint32_t values() const { return spread_scale_.rows(); }          // that were judged

  // What was expected of the newest row: the mean of its hour of the day, or of the last values before it.
  std::optional<Expected> expected() const {
    if (expected_slot_.rows) return band(expected_slot_.mean, expected_deviation_);
    unsigned first = newest_judged_ ? 1 : 0;
    unsigned last = std::min<uint32_t>(recent_.rows(), kBandRows + first);
    if (last < first + kBandLeast) return {};
    Welford values;
    for (unsigned back = last; back-- > first;) values.update(recent_.back(back));
    double rows = last - first;  // few values say little of the next one: the variance of Student's t
    return band(values.mean(), std::sqrt(values.variance() * (rows + 1.0) / (rows - 3.0)));
  }

  size_t bytes() const { return sizeof *this + hours_.bytes() + likelihood_.bytes() + shape_.bytes(); }

  std::string save() const {
    Writer out;
    std::string counts = likelihood_.raw_scores().counts();
    out.varint(static_cast<uint32_t>(counts.size()));
    for (char count : counts) out.number(static_cast<uint8_t>(count));
    likelihood_.save(out);
    out.real(gap_steps_);
    pace_.save(out);
    out.number(last_value_);
    out.real(farthest_);
    recent_.save(out);
    spread_scale_.save(out);
    for (const Level& level : levels_) level.save(out);
    spread_.save(out);
    shape_.save(out);
    hours_.save(out);
    season_.save(out);
    run_.save(out);
    jump_.save(out);
    bin_.save(out);
    return out.take();
  }

  // What `save` wrote.  Throws CorruptState for bytes that it did not.
  static Detector restored(const char* data, size_t size);

 private:
  void restore_values(Reader& in) {
    pace_.restore(in);
    last_value_ = Pace::timestamp_from(in);
    farthest_ = finite(in);
    recent_.restore(in);
    spread_scale_.restore(in);
    for (Level& level : levels_) level.restore(in);
    spread_.restore(in);
    shape_.restore(in);
    hours_.restore(in);
    season_.restore(in);
    run_.restore(in);
    jump_.restore(in);
    bin_.restore(in);
  }

  void judge_sequence(double value, double raw) {
    likelihood_.put(likelihood_.raw_scores().count_of(raw));
    findings_[kSequence] = {sequence_decades(likelihood_.raw_scores()), Side::none};
    likelihood_score_ = likelihood_.score(value);
    likelihood_.learn(value);
  }

  // A bin closes with the row that reaches its end, or, where that one is missing, with the first row after it.
  void fill_bin(int64_t timestamp, double value) {
    double sequence = findings_[kSequence].decades;
    int64_t place = floor_div(timestamp, kBin);
    if (place != bin_.place) close_bin();
    bin_.place = place;
    bin_.put(value, sequence);
    newest_judged_ = static_cast<double>(timestamp - bin_.begin()) + pace_.step() >= kBin && bin_.values > 0;
    if (static_cast<double>(timestamp - bin_.begin()) + pace_.step() >= kBin) close_bin();
  }

  void close_bin() {
    if (!bin_.open) return;
    Bin bin = std::exchange(bin_, {});
    findings_[kSequence].take(bin.sequence, Side::none);
    if (bin.values > 0) judge_value(bin.begin(), bin.sum / bin.values);
  }

  void judge_value(int64_t timestamp, double value) {
    if (values() > 0 && static_cast<double>(timestamp - last_value_) > gap_steps_ * step()) gap();
    last_value_ = timestamp;
    recent_.put(value);
    spread_scale_.update(value);
    for (unsigned i = 0; i < levels_.size(); ++i) take(kLevelKinds + i, levels_[i].update(recent_));
    take(kSpreadKind, spread_.update(recent_, spread_scale_));
    take(kShapeKind, shape_.update(recent_));
    take(kSeasonBounds, hours_.update(timestamp, value, recent_.rounding()));
    bool first_day_over = hours_.first_day_over(timestamp);
    take(kSeasonDeviation, season_.update(timestamp, value, step(), recent_, first_day_over));
    take(kSeasonLevelKind, season_.level());
    take(kRunKind, run_.update(recent_));
    take(kAwayKind, hours_.away());
    take(kJumpKind, jump_.update(recent_));
  }

  // A row may close two bins: the louder one speaks.
  void take(unsigned kind, Finding finding) { findings_[kind].take(finding.decades, finding.side); }

  // What was before a gap says nothing of the rows after it but how rare they are.
  void gap() {
    recent_.gap();
    for (Level& level : levels_) level.gap();
    shape_.gap();
    season_.gap();
  }

  // Rows with another step are something else: only what the times of day show stays as it is.
  void start_again() {
    bin_ = {};
    recent_ = {};
    spread_scale_ = {};
    levels_ = new_levels();
    spread_ = {};
    shape_ = {};
    run_ = {};
    jump_ = {};
    hours_.forget_peaks();
    season_.forget_peaks();
  }

  // Whether rows have had their step for too short a time.
  bool is_settling() const {
    if (pace_.is_in_doubt()) return true;
    return pace_.has_changed() && (pace_.last() - pace_.changed_at() < kSettling || values() < kSpreadLeast);
  }

  double within_reach(double value) {
    double reach = farthest_ > 0.0 ? std::min(kFarthest, kLeap * farthest_) : kFarthest;
    value = std::min(std::max(value, -reach), reach);
    farthest_ = std::max(farthest_, std::fabs(value));
    return value;
  }

  // Before the row changes them.
  void remember_expected(int64_t timestamp) {
    const SeasonDeviation::Slot& slot = season_.slot_at(timestamp);
    expected_slot_ = season_.is_known(slot, hours_.first_day_over(timestamp)) ? slot : SeasonDeviation::Slot{};
    if (expected_slot_.rows > 0) expected_deviation_ = season_.deviation(slot);
  }

  static std::array<Level, 4> new_levels() {
    return {Level(kLevels[0]), Level(kLevels[1]), Level(kLevels[2]), Level(kLevels[3])};
  }

  static Expected band(double middle, double deviation) {
    return {middle, middle - kBandDeviations * deviation, middle + kBandDeviations * deviation};
  }

  // The score is the root mean square: one kind that stands alone counts less than two that agree.  Some may page
  // alone.
  void fuse() {
    double squares = 0.0, loudest = 0.0;
    for (unsigned kind = 0; kind < kKinds; ++kind) {
      double decades = pace_.shifted(findings_[kind].decades);
      if (kind < kFused)
        squares += decades * decades;
      else
        loudest = std::max(loudest, decades);
    }
    score_ = std::sqrt(squares / kFused);
    height_ = std::sqrt(score_ * score_ + (kAloneWeight * loudest) * (kAloneWeight * loudest));
  }

  double gap_steps_;
  Pace pace_;
  int64_t last_value_ = 0;  // when it came
  double farthest_ = 0.0;   // value from 0
  Recent recent_;
  SpreadScale spread_scale_;
  std::array<Level, 4> levels_ = new_levels();
  Spread spread_;
  Shape shape_;
  Hours hours_;
  SeasonDeviation season_;
  Run run_;
  Jump jump_;
  Bin bin_;
  Likelihood likelihood_;

  // Of the newest row; not saved.
  Findings findings_{};
  double score_ = 0.0, height_ = 0.0, likelihood_score_ = 0.0;
  bool newest_judged_ = false;             // and last of the values
  SeasonDeviation::Slot expected_slot_{};  // no rows: the season does not know
  double expected_deviation_ = 0.0;
};

inline Detector Detector::restored(const char* data, size_t size) {
  Reader in(data, size);
  uint32_t count = in.varint();
  require(count <= size, "more raw scores than bytes");
  std::vector<uint8_t> counts(count);
  for (uint8_t& one : counts) one = in.number<uint8_t>();
  Likelihood likelihood = Likelihood::restored(in, counts.data(), counts.size());
  double gap_steps = in.real();
  require(gap_steps > 0.0, "an impossible gap");
  Detector detector(likelihood, gap_steps);
  detector.restore_values(in);
  in.finish();
  return detector;
}

}  // namespace evidence
