// SPDX-License-Identifier: MIT
// The plain temporal memory (Hawkins, Ahmad 2016; NuPIC's "tm_cpp"): a column's predicted cells become active, or all
// of them when none was predicted; the winner cells learn the transition.
#pragma once

#include <algorithm>

#include "memory.hpp"
#include "segments.hpp"

namespace htm {

// How many segments each cell has, kept for the columns that have any.
class SegmentCounts {
 public:
  SegmentCounts() : place_(kMaxColumns, 0) {}

  uint16_t& of(uint16_t cell) {
    uint16_t& place = place_[column_of(cell)];
    if (place == 0) {
      counts_.resize(counts_.size() + kCellsPerColumn, 0);
      place = static_cast<uint16_t>(counts_.size() / kCellsPerColumn);
    }
    return counts_[(place - 1u) * kCellsPerColumn + cell % kCellsPerColumn];
  }

  size_t bytes() const { return (place_.capacity() + counts_.capacity()) * sizeof(uint16_t); }

 private:
  std::vector<uint16_t> counts_, place_;
};

template <class Permanence, unsigned Words = 1>
class PlainMemory final : public TemporalMemory {
 public:
  explicit PlainMemory(const TemporalMemoryParams& params)
      : params_(params),
        initial_(permanence_units<Permanence>(params.initial_permanence)),
        increment_(permanence_units<Permanence>(params.increment)),
        decrement_(permanence_units<Permanence>(params.decrement)),
        punishment_(permanence_units<Permanence>(params.predicted_segment_decrement)),
        all_cells_(all_cells_of(params)),
        segments_(params.max_segments, params.max_synapses, permanence_units<Permanence>(params.connected_permanence)),
        random_(params.seed) {}

  double row(const Columns& columns, bool learning) override {
    scratch_ = &Scratch::of_this_thread();
    ++rows_;
    std::swap(previous_active_, active_);
    std::swap(previous_winners_, winners_);
    scratch_->previous.insert_all(previous_active_);
    scratch_->winners.insert_all(previous_winners_);
    size_t unexpected = activate_cells(columns, learning);
    if (learning) punish_others(columns);
    scratch_->winners.erase_all(previous_winners_);
    scratch_->previous.erase_all(previous_active_);
    activate_segments();
    if (learning)
      for (const Hit& hit : hits_)
        if (hit.active) segments_.use(hit.segment, rows_);
    return columns.empty() ? 0.0 : static_cast<double>(unexpected) / static_cast<double>(columns.size());
  }

  void context(Cells& cells) const override { context_of(active_, params_.cells_per_column - 1, cells); }

  const Segments<Permanence, Words>& all_segments() const { return segments_; }
  unsigned segments() const override { return segments_.live(); }
  size_t synapses() const override { return segments_.synapses(); }

  size_t bytes() const override {
    return sizeof *this + segments_.bytes() + counts_.bytes() + hits_.capacity() * sizeof(Hit) +
           (active_.capacity() + previous_active_.capacity()) * sizeof(ColumnCells) +
           (winners_.capacity() + previous_winners_.capacity() + least_used_.capacity()) * sizeof(uint16_t);
  }

  void save(Writer& out) const override {
    out.number(rows_);
    out.number(random_.state());
    save_columns(active_, out);
    out.ascending(winners_);
    segments_.save(out);
  }

  void restore(Reader& in) override {
    rows_ = in.number<uint32_t>();
    random_.set_state(in.number<uint64_t>());
    active_ = restore_columns(in, params_.columns, all_cells_);
    winners_ = in.ascending(kMaxCells, kMaxCells - 1, "winner cells");
    for (uint16_t cell : winners_)
      require(column_of(cell) < params_.columns && cell % kCellsPerColumn < params_.cells_per_column, "winner cells");
    segments_.restore(in, params_.columns, params_.cells_per_column);
    segments_.for_each_live([&](uint16_t segment) { ++counts_.of(segments_.owner(segment)); });
    scratch_ = &Scratch::of_this_thread();
    activate_segments();
  }

 private:
  // A segment that matches the active cells.
  struct Hit {
    uint16_t cell;
    uint16_t segment;
    uint8_t count;  // of its synapses from active cells, connected or not; 0: the segment is gone
    bool active;    // enough of them are connected: its cell is predicted
  };
  using Hits = typename std::vector<Hit>::iterator;

  // Which cells of the columns are active, and which win.  Returns how many columns were not predicted.
  size_t activate_cells(const Columns& columns, bool learning) {
    active_.clear();
    winners_.clear();
    size_t unexpected = 0;
    for (uint16_t column : columns) {
      auto [first, last] = hits_of(column);
      if (std::any_of(first, last, [](const Hit& hit) { return hit.active; })) {
        activate_predicted_column(column, first, last, learning);
      } else {
        burst_column(column, first, last, learning);
        ++unexpected;
      }
    }
    return unexpected;
  }

  // The predicted cells are active and win; the segments that predicted them learn.
  void activate_predicted_column(uint16_t column, Hits first, Hits last, bool learning) {
    uint32_t cells = 0;
    for (Hits hit = first; hit != last; ++hit) {
      if (!hit->active) continue;
      if (!(cells & bit_of(hit->cell))) winners_.push_back(hit->cell);
      cells |= bit_of(hit->cell);
      if (learning && hit->count) reinforce(*hit);
    }
    active_.push_back({column, cells});
  }

  // All cells are active.  The cell of the best matching segment wins, or the least used one, which gets a segment.
  void burst_column(uint16_t column, Hits first, Hits last, bool learning) {
    active_.push_back({column, all_cells_});
    Hits best = std::max_element(first, last, [](const Hit& a, const Hit& b) { return a.count < b.count; });
    if (best != last && best->count) {
      winners_.push_back(best->cell);
      if (learning) reinforce(*best);
      return;
    }
    winners_.push_back(least_used_cell(column));
    if (learning && !previous_winners_.empty()) grow(winners_.back());
  }

  // Segments that predicted a column which is not active.
  void punish_others(const Columns& columns) {
    if (punishment_ == 0) return;
    for (Hit& hit : hits_)
      if (hit.count && !std::binary_search(columns.begin(), columns.end(), column_of(hit.cell))) {
        segments_.adapt(hit.segment, scratch_->previous, -punishment_, 0);
        drop_if_empty(hit.segment);
      }
  }

  // The segments that match the active cells, by cell and then slot.
  void activate_segments() {
    hits_.clear();
    segments_.for_each_excited(active_, scratch_->all, params_.min_threshold, *scratch_,
                               [&](uint16_t segment, unsigned count, unsigned connected) {
                                 hits_.push_back({segments_.owner(segment), segment, static_cast<uint8_t>(count),
                                                  connected >= params_.activation_threshold});
                               });
    std::sort(hits_.begin(), hits_.end(),
              [](const Hit& a, const Hit& b) { return a.cell != b.cell ? a.cell < b.cell : a.segment < b.segment; });
  }

  std::pair<Hits, Hits> hits_of(uint16_t column) {
    auto before = [](const Hit& hit, unsigned limit) { return hit.cell < limit; };
    unsigned first_cell = column * kCellsPerColumn;
    Hits first = std::lower_bound(hits_.begin(), hits_.end(), first_cell, before);
    return {first, std::lower_bound(first, hits_.end(), first_cell + kCellsPerColumn, before)};
  }

  uint16_t least_used_cell(uint16_t column) {
    least_used_.clear();
    unsigned fewest = ~0u;
    for (unsigned i = 0; i < params_.cells_per_column; ++i) {
      uint16_t cell = cell_number(column, i);
      unsigned count = counts_.of(cell);
      if (count < fewest) least_used_.clear();
      fewest = std::min(fewest, count);
      if (count == fewest) least_used_.push_back(cell);
    }
    return least_used_[random_.below(static_cast<uint32_t>(least_used_.size()))];
  }

  // The segment's synapses from the previously active cells grow stronger, the others weaker, and new ones come from
  // the previous winners.
  void reinforce(const Hit& hit) {
    unsigned active = segments_.adapt(hit.segment, scratch_->previous, increment_, -decrement_);
    connect(hit.segment, static_cast<int>(params_.new_synapses) - static_cast<int>(active));
    drop_if_empty(hit.segment);
  }

  void grow(uint16_t cell) {
    if (segments_.full()) drop(segments_.stalest(random_));
    uint16_t segment = segments_.create(cell, rows_);
    ++counts_.of(cell);
    connect(segment, static_cast<int>(params_.new_synapses));
  }

  void connect(uint16_t segment, int wanted) {
    segments_.grow(segment, wanted, previous_winners_, scratch_->winners, initial_, random_, *scratch_);
  }

  void drop_if_empty(uint16_t segment) {
    if (segments_.count(segment) == 0) drop(segment);
  }

  void drop(uint16_t segment) {
    --counts_.of(segments_.owner(segment));
    for (Hit& hit : hits_)
      if (hit.segment == segment) hit.count = 0;
    segments_.destroy(segment);
  }

  TemporalMemoryParams params_;
  int initial_, increment_, decrement_, punishment_;  // in units of Permanence
  uint32_t all_cells_;
  Segments<Permanence, Words> segments_;
  Random random_;
  Scratch* scratch_ = nullptr;  // this thread's, during a row

  uint32_t rows_ = 0;
  std::vector<ColumnCells> active_, previous_active_;  // active cells, by column
  Cells winners_, previous_winners_;                   // ascending
  std::vector<Hit> hits_;                              // of the last row's active cells, by cell, then slot
  SegmentCounts counts_;
  Cells least_used_;
};

}  // namespace htm
