// SPDX-License-Identifier: MIT
// The value's distance from the mean of its hour of the day, in that hour's own standard deviations; and the mean of
// the last distances: half an hour that is a little wrong for its time of day.
#pragma once

#include "hours.hpp"
#include "rarity.hpp"
#include "recent.hpp"

namespace evidence {

// An hour forgets within two weeks, whatever the interval.  Its variance is shrunk towards the metric's, so that an
// hour seen twice does not make everything look rare.
class SeasonDeviation {
 public:
  struct Slot {
    uint32_t rows = 0;
    double mean = 0.0, variance = 0.0;
  };

  Finding update(int64_t timestamp, double value, double step, const Recent& recent, bool first_day_over) {
    Slot& slot = slots_[slot_of(timestamp)];
    all_.update(value);
    double distance = slot.rows ? value - slot.mean : 0.0;
    Finding finding;
    level_ = {};
    if (is_known(slot, first_day_over)) {
      double unit = deviation(slot) + kSeasonFloorShare * std::sqrt(all_.variance()) + recent.rounding();
      double units = unit > 0.0 ? distance / unit : 0.0;
      finding = rarity_.update(units, kRounding);
      put(std::min(std::max(units, -kSeasonClip), kSeasonClip));
      if (recent.reaches(kSeasonLevel)) level_ = level_rarity_.update(mean_distance(), kRounding);
    } else {
      put(0.0);
    }
    learn(slot, value, distance, step);
    return finding;
  }

  // What the newest value and those before it say together.
  Finding level() const { return level_; }

  void gap() { kept_ = 0; }

  // Rows are something else from now on; what an hour's mean is stays.
  void forget_peaks() {
    gap();
    rarity_ = level_rarity_ = {};
  }

  const Slot& slot_at(int64_t timestamp) const { return slots_[slot_of(timestamp)]; }
  // An hour is known when the metric's first day is over: within it the hour's mean is that of the last minutes.
  bool is_known(const Slot& slot, bool first_day_over) const {
    return first_day_over && slot.rows >= kSeasonLeast && all_.rows() > kSeasonFirst;
  }

  double deviation(const Slot& slot) const {
    return std::sqrt((slot.variance * slot.rows + kSeasonPrior * all_.variance()) / (slot.rows + kSeasonPrior));
  }

  void save(Writer& out) const {
    for (const Slot& slot : slots_) {
      out.varint(slot.rows);
      if (slot.rows == 0) continue;
      out.real(slot.mean);
      out.real(slot.variance);
    }
    all_.save(out);
    rarity_.save(out);
    out.number(static_cast<uint8_t>(kept_));
    for (unsigned i = 0; i < kept_; ++i) out.real(distances_[i]);
    level_rarity_.save(out);
  }

  void restore(Reader& in) {
    for (Slot& slot : slots_) {
      slot.rows = in.varint();
      if (slot.rows == 0) continue;
      slot.mean = finite(in);
      slot.variance = finite(in);
      require(slot.variance >= 0.0, "a negative variance");
    }
    all_.restore(in);
    rarity_.restore(in);
    kept_ = in.number_to<uint8_t>(kSeasonLevel, "too many distances");
    for (unsigned i = 0; i < kept_; ++i) {
      distances_[i] = in.real();
      require(std::fabs(distances_[i]) <= kSeasonClip, "a distance that is too large");
    }
    level_rarity_.restore(in);
  }

 private:
  static unsigned slot_of(int64_t timestamp) {
    int64_t hour = floor_div(timestamp, 3600) % kSlots;
    return static_cast<unsigned>(hour < 0 ? hour + kSlots : hour);
  }

  void put(double distance) {
    if (kept_ == kSeasonLevel) std::copy(distances_ + 1, distances_ + kept_--, distances_);
    distances_[kept_++] = distance;
  }

  double mean_distance() const {
    double sum = 0.0;
    for (unsigned i = 0; i < kept_; ++i) sum += distances_[i];
    return sum / kept_;
  }

  static void learn(Slot& slot, double value, double distance, double step) {
    if (slot.rows == 0) {
      slot.mean = value;
    } else {
      double steady = std::min(kSeasonFastest, kSlots * step / (kSeasonDays * 86400));
      double share = std::max(steady, 1.0 / (slot.rows + 1.0));
      slot.mean += share * distance;
      slot.variance += share * (distance * distance * (1 - share) - slot.variance);
    }
    ++slot.rows;
  }

  Slot slots_[kSlots];
  Welford all_;
  TwoSided rarity_, level_rarity_;
  double distances_[kSeasonLevel] = {};  // the oldest first
  unsigned kept_ = 0;
  Finding level_;  // of the newest value; not saved
};

}  // namespace evidence
