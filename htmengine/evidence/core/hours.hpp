// SPDX-License-Identifier: MIT
// What an hour of the day usually shows: the highest and lowest value of each of the last 16 days' hours.
#pragma once

#include <limits>
#include <vector>

#include "rarity.hpp"

namespace evidence {

inline int64_t floor_div(int64_t a, int64_t b) { return a / b - (a % b < 0); }

// Two questions.  Beyond: is the value outside all that this hour of the day and its two neighbours showed?  Away: in
// the five hours before this hour of the day a peak (trough) came every day; has none as high (low) come today?
class Hours {
 public:
  Finding update(int64_t timestamp, double value, double rounding) {
    int32_t hour = static_cast<int32_t>(floor_div(timestamp, 3600));
    if (!begun_) begin(hour);
    if (hour != hour_) enter(hour);
    Finding finding;
    if (bounds_.known) {
      finding.take(above_.update(value - bounds_.high, rounding), Side::up);
      finding.take(below_.update(bounds_.low - value, rounding), Side::down);
    }
    Cell& cell = cell_of(hour);
    if (cell.hour != hour) cell = {hour, value, value};
    cell.high = std::max(cell.high, value);
    cell.low = std::min(cell.low, value);
    away_ = {};
    if (usual_.known) {
      away_.take(no_peak_.update(usual_.high - std::max(today_.high, cell.high), rounding), Side::missing_peak);
      away_.take(no_trough_.update(std::min(today_.low, cell.low) - usual_.low, rounding), Side::missing_trough);
    }
    finding.take(away_.decades, away_.side);
    return finding;
  }

  // Rows are something else from now on; what the hours showed stays.
  void forget_peaks() { above_ = below_ = no_peak_ = no_trough_ = {}; }

  // What the newest value says of a peak or trough that stays away.
  Finding away() const { return away_; }

  // Whether 24 hours have begun since the first value's.
  bool first_day_over(int64_t timestamp) const { return begun_ && floor_div(timestamp, 3600) - first_ >= kSlots; }

  size_t bytes() const { return cells_.capacity() * sizeof(Cell); }

  void save(Writer& out) const {
    out.number(static_cast<uint8_t>(begun_));
    out.number(first_);
    out.number(hour_);
    for (const Range* range : {&bounds_, &usual_, &today_}) {
      out.number(static_cast<uint8_t>(range->known));
      out.real(range->high);
      out.real(range->low);
    }
    out.varint(static_cast<uint32_t>(cells_.size()));
    for (const Cell& cell : cells_) {  // an hour a cell: its round says which
      out.varint(cell.hour == kNever ? 0 : static_cast<uint32_t>(floor_div(cell.hour, kHoursRing) - kFirstRound));
      if (cell.hour == kNever) continue;
      out.real(cell.high);
      out.real(cell.low);
    }
    for (const Rarity* rarity : {&above_, &below_, &no_peak_, &no_trough_}) rarity->save(out);
  }

  void restore(Reader& in) {
    begun_ = in.number_to<uint8_t>(1, "neither yes nor no");
    first_ = hour_from(in);
    hour_ = hour_from(in);
    for (Range* range : {&bounds_, &usual_, &today_}) {
      range->known = in.number_to<uint8_t>(1, "neither yes nor no");
      range->high = finite(in);
      range->low = finite(in);
    }
    uint32_t count = in.varint();
    require(count <= kHoursRing, "too many hours");
    cells_.resize(count);
    for (uint32_t place = 0; place < count; ++place) {
      uint32_t round = in.varint();
      if (round == 0) continue;
      require(round <= kRounds, "an hour that is none");
      cells_[place].hour = hour_at(round, place);
      cells_[place].high = finite(in);
      cells_[place].low = finite(in);
    }
    for (Rarity* rarity : {&above_, &below_, &no_peak_, &no_trough_}) rarity->restore(in);
  }

 private:
  static constexpr int32_t kNever = std::numeric_limits<int32_t>::min();
  static constexpr int64_t kRing = kHoursRing;
  static constexpr int64_t kFirstRound = -(kLatest / 3600 / kRing) - 2;  // saved rounds count from 1
  static constexpr uint32_t kRounds = static_cast<uint32_t>(-2 * kFirstRound + 2);

  struct Cell {
    int32_t hour = kNever;  // since 1970
    double high = 0.0, low = 0.0;
  };

  struct Range {
    bool known = false;
    double high = 0.0, low = 0.0;

    void include(const Cell& cell) {
      high = known ? std::max(high, cell.high) : cell.high;
      low = known ? std::min(low, cell.low) : cell.low;
      known = true;
    }
  };

  static int32_t hour_from(Reader& in) {
    int32_t hour = in.number<int32_t>();
    require(std::abs(static_cast<int64_t>(hour)) <= kLatest / 3600 + 1, "an hour that is none");
    return hour;
  }

  void begin(int32_t hour) {
    begun_ = true;
    first_ = hour;
    hour_ = hour - 1;
  }

  // Cells count from the metric's first hour, so a young metric has few.
  size_t place_of(int64_t hour) const {
    int64_t place = (hour - first_) % kRing;
    return static_cast<size_t>(place < 0 ? place + kRing : place);
  }

  int32_t hour_at(uint32_t round, uint32_t place) const {
    int64_t lowest = (static_cast<int64_t>(round) + kFirstRound) * kRing;
    int64_t ahead = (static_cast<int64_t>(place) - (lowest - first_)) % kRing;
    return static_cast<int32_t>(lowest + (ahead < 0 ? ahead + kRing : ahead));
  }

  Cell& cell_of(int32_t hour) {
    size_t place = place_of(hour);
    while (place >= cells_.size()) append(cells_, Cell{}, kHoursRing);
    return cells_[place];
  }

  const Cell* known(int64_t hour) const {
    size_t place = place_of(hour);
    return place < cells_.size() && cells_[place].hour == hour ? &cells_[place] : nullptr;
  }

  // Once an hour: what the past says of it.
  void enter(int32_t hour) {
    hour_ = hour;
    bounds_ = bounds_of(hour);
    usual_ = {};
    today_ = hours_before(hour);
    if (today_.known) usual_ = usual_before(hour);
  }

  Range bounds_of(int64_t hour) const {
    int64_t day = floor_div(hour, 24) * 24, slot = hour - day;
    Range range;
    unsigned found = 0;
    for (int ago = 1; ago <= kBoundsDays; ++ago)
      for (int64_t neighbour : {slot + 23, slot, slot + 1})
        if (const Cell* cell = known(day - 24 * ago + neighbour % 24)) {
          range.include(*cell);
          ++found;
        }
    return found >= kBoundsLeast ? range : Range{};
  }

  // The five hours before this one, if all are known.
  Range hours_before(int64_t hour) const {
    Range range;
    for (int ago = 1; ago <= kAwayHours; ++ago) {
      const Cell* cell = known(hour - ago);
      if (!cell) return {};
      range.include(*cell);
    }
    return range;
  }

  // The lowest of the days' peaks, and the highest of their troughs.
  Range usual_before(int64_t hour) const {
    Range usual;
    unsigned found = 0;
    for (int ago = 1; ago <= kAwayDays; ++ago) {
      Range day = hours_before(hour - 24 * ago);
      if (!day.known) continue;
      usual.high = found ? std::min(usual.high, day.high) : day.high;
      usual.low = found ? std::max(usual.low, day.low) : day.low;
      ++found;
    }
    usual.known = found >= kAwayLeast;
    return usual;
  }

  bool begun_ = false;
  int32_t first_ = 0;  // the metric's first hour
  int32_t hour_ = 0;   // the hour that the ranges are for
  Range bounds_, usual_, today_;
  std::vector<Cell> cells_;  // a ring
  Rarity above_, below_, no_peak_, no_trough_;
  Finding away_;  // of the newest value; not saved
};

}  // namespace evidence
