// SPDX-License-Identifier: MIT
// All evidence of one metric, and the one score that it gives.
#pragma once

#include <array>
#include <optional>

#include "level.hpp"
#include "likelihood.hpp"
#include "pace.hpp"
#include "season.hpp"
#include "shape.hpp"
#include "spread.hpp"

namespace evidence {

// One of each kind: levels, spreads, shapes, season bounds, season deviation, sequence; kinds.py has their names.
constexpr unsigned kKinds = 11;

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
      : gap_steps_(gap_steps),
        levels_{Level(kLevels[0]), Level(kLevels[1]), Level(kLevels[2]), Level(kLevels[3])},
        spreads_{Spread(kSpreads[0]), Spread(kSpreads[1])},
        shapes_{Shape(kShapeBlocks[0], kShapeStrides[0]), Shape(kShapeBlocks[1], kShapeStrides[1])},
        likelihood_(likelihood) {
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
    pace_.update(timestamp);
    findings_ = {};
    judge_sequence(value, raw);
    bool missing = !std::isfinite(value);
    remember_expected(timestamp, missing);
    if (!missing) judge_value(timestamp, within_reach(value));
    return fused();
  }

  void set_range_rule(bool on) { likelihood_.set_range_rule(on); }

  const Findings& findings() const { return findings_; }
  double likelihood() const { return likelihood_score_; }
  double step() const { return pace_.step(); }
  int64_t rows() const { return likelihood_.raw_scores().rows(); }  // also those without a value
  uint32_t values() const { return spread_scale_.rows(); }

  // What was expected of the newest row: the mean of its hour of the day, or of the last values before it.
  std::optional<Expected> expected() const {
    if (expected_slot_.rows) return band(expected_slot_.mean, expected_deviation_);
    unsigned first = newest_missing_ ? 0 : 1;
    unsigned last = std::min<uint32_t>(recent_.rows(), kBandRows + first);
    if (last <= first) return {};
    Welford values;
    for (unsigned back = last; back-- > first;) values.update(recent_.back(back));
    return band(values.mean(), std::sqrt(values.variance()));
  }

  size_t bytes() const {
    size_t bytes = sizeof *this + hours_.bytes() + likelihood_.bytes();
    for (const Shape& shape : shapes_) bytes += shape.bytes();
    return bytes;
  }

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
    for (const Spread& spread : spreads_) spread.save(out);
    for (const Shape& shape : shapes_) shape.save(out);
    hours_.save(out);
    season_.save(out);
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
    for (Spread& spread : spreads_) spread.restore(in);
    for (Shape& shape : shapes_) shape.restore(in);
    hours_.restore(in);
    season_.restore(in);
  }

  void judge_sequence(double value, double raw) {
    likelihood_.put(likelihood_.raw_scores().count_of(raw));
    findings_.back() = {sequence_decades(likelihood_.raw_scores()), Side::none};
    likelihood_score_ = likelihood_.score(value);
    likelihood_.learn(value);
  }

  void judge_value(int64_t timestamp, double value) {
    if (values() > 0 && static_cast<double>(timestamp - last_value_) > gap_steps_ * pace_.step()) gap();
    last_value_ = timestamp;
    recent_.put(value);
    spread_scale_.update(value);
    Finding* finding = findings_.data();
    for (Level& level : levels_) *finding++ = level.update(recent_);
    for (Spread& spread : spreads_) *finding++ = spread.update(recent_, spread_scale_);
    for (Shape& shape : shapes_) *finding++ = shape.update(value);
    *finding++ = hours_.update(timestamp, value);
    *finding = season_.update(timestamp, value, pace_.step());
  }

  // What was before a gap says nothing of the rows after it but how rare they are.
  void gap() {
    recent_.clear();
    for (Level& level : levels_) level.gap();
    for (Spread& spread : spreads_) spread.gap();
    for (Shape& shape : shapes_) shape.gap();
  }

  double within_reach(double value) {
    double reach = farthest_ > 0.0 ? std::min(kFarthest, kLeap * farthest_) : kFarthest;
    value = std::min(std::max(value, -reach), reach);
    farthest_ = std::max(farthest_, std::fabs(value));
    return value;
  }

  // Before the row changes them.
  void remember_expected(int64_t timestamp, bool missing) {
    const SeasonDeviation::Slot& slot = season_.slot_at(timestamp);
    newest_missing_ = missing;
    expected_slot_ = season_.is_known(slot) ? slot : SeasonDeviation::Slot{};
    if (expected_slot_.rows > 0) expected_deviation_ = season_.deviation(slot);
  }

  static Expected band(double middle, double deviation) {
    return {middle, middle - kBandDeviations * deviation, middle + kBandDeviations * deviation};
  }

  // The root mean square: one kind that stands alone counts less than two that agree.
  double fused() const {
    double squares = 0.0;
    for (const Finding& finding : findings_) {
      double decades = pace_.shifted(finding.decades);
      squares += decades * decades;
    }
    return std::sqrt(squares / kKinds);
  }

  double gap_steps_;
  Pace pace_;
  int64_t last_value_ = 0;  // when it came
  double farthest_ = 0.0;   // value from 0
  Recent recent_;
  SpreadScale spread_scale_;
  std::array<Level, 4> levels_;
  std::array<Spread, 2> spreads_;
  std::array<Shape, 2> shapes_;
  Hours hours_;
  SeasonDeviation season_;
  Likelihood likelihood_;

  // Of the newest row; not saved.
  Findings findings_{};
  double likelihood_score_ = 0.0;
  bool newest_missing_ = true;
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
