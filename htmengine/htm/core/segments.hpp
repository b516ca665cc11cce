// SPDX-License-Identifier: MIT
// Segments and their synapses, and what both temporal memories do with them: count active synapses, move
// permanences, grow and remove synapses, make place when there are too many segments.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>

#include "blocks.hpp"
#include "cells.hpp"
#include "random.hpp"
#include "recent_cells.hpp"
#include "scratch.hpp"
#include "serialize.hpp"
#include "source_index.hpp"

namespace htm {

// Permanences are whole units, so that sums are exact on every machine: hundredths in 8 bits where all
// parameters are multiples of 0.01, else ten-thousandths in 16 bits.
template <class Permanence>
constexpr int permanence_one() {
  return sizeof(Permanence) == 1 ? 100 : 10000;
}

template <class Permanence>
int permanence_units(double permanence) {
  return static_cast<int>(std::round(permanence * permanence_one<Permanence>()));
}

template <class Permanence>
class Segments {
 public:
  Segments(unsigned max_segments, unsigned max_synapses, int connected)
      : max_segments_(max_segments), max_synapses_(max_synapses), connected_permanence_(connected) {}

  // --- segments

  unsigned live() const { return slots() - static_cast<unsigned>(free_.size()); }
  unsigned slots() const { return static_cast<unsigned>(owners_.size()); }
  bool full() const { return live() == max_segments_; }

  uint16_t owner(unsigned segment) const { return owners_[segment]; }
  unsigned count(unsigned segment) const { return counts_[segment]; }
  const uint16_t* sources(unsigned segment) const { return blocks_.at(starts_[segment]); }
  const Permanence* permanences(unsigned segment) const {
    return reinterpret_cast<const Permanence*>(sources(segment) + capacity(segment));
  }

  template <class Visit>
  void for_each_live(Visit visit) const {
    std::vector<bool> live(slots(), true);
    for (uint16_t segment : free_) live[segment] = false;
    for (unsigned segment = 0; segment < slots(); ++segment)
      if (live[segment]) visit(static_cast<uint16_t>(segment));
  }

  // A new segment without synapses.  Only when not full().
  uint16_t create(uint16_t owner, uint32_t row) {
    uint16_t segment;
    if (free_.empty()) {
      segment = static_cast<uint16_t>(slots());
      grow_tables();
    } else {
      segment = free_.back();
      free_.pop_back();
    }
    owners_[segment] = owner;
    used_[segment] = row;
    return segment;
  }

  void destroy(uint16_t segment) {
    for (unsigned i = 0; i < counts_[segment]; ++i) index_.remove(sources(segment)[i], segment);
    if (capacities_[segment]) blocks_.give_back(starts_[segment], block_size(capacities_[segment]));
    counts_[segment] = connected_counts_[segment] = capacities_[segment] = 0;
    free_.push_back(segment);
  }

  // Notes that the segment was of use on this row.
  void use(uint16_t segment, uint32_t row) { used_[segment] = row; }

  // The one whose last use is oldest of 16 random segments: it gives way when full().  Then every slot is live.
  uint16_t stalest(Random& random) const {
    uint16_t oldest = static_cast<uint16_t>(random.below(slots()));
    for (unsigned i = 1; i < 16; ++i) {
      uint16_t other = static_cast<uint16_t>(random.below(slots()));
      if (used_[other] < used_[oldest]) oldest = other;
    }
    return oldest;
  }

  // --- activity

  // Counts the synapses from these cells, connected or not, of all segments; collect() ends the counting.
  void excite(const ColumnCells& cells, Scratch& scratch) const { index_.count_from(cells, scratch.counters.data()); }

  // Calls visit(segment, count) for each segment with at least `threshold` counted synapses, in slot order, and
  // sets all counters back to zero.
  template <class Visit>
  void collect(unsigned threshold, Scratch& scratch, Visit visit) const {
    uint8_t* counters = scratch.counters.data();
    uint8_t least = static_cast<uint8_t>(threshold);
    for (unsigned first = 0; first < slots(); first += 64, counters += 64) {
      uint8_t any = 0;
      for (unsigned i = 0; i < 64; ++i) any |= static_cast<uint8_t>(counters[i] >= least);
      if (any)
        for (unsigned i = 0; i < 64; ++i)
          if (counters[i] >= least) visit(static_cast<uint16_t>(first + i), counters[i]);
      std::fill_n(counters, 64, uint8_t{0});
    }
  }

  // Whether at least `threshold` synapses, connected or not, come from active cells.
  bool matches(uint16_t segment, unsigned threshold, const CellSet& active) const {
    return reaches(threshold, sources(segment), counts_[segment], active);
  }

  // Whether at least `threshold` connected synapses come from active cells.
  bool connected(uint16_t segment, unsigned threshold, const CellSet& active) const {
    return reaches(threshold, sources(segment), connected_counts_[segment], active);
  }

  // Its connected synapses will be looked at soon: they mostly reach into a second line of 64 bytes.
  void prefetch(uint16_t segment) const {
    __builtin_prefetch(sources(segment));
    __builtin_prefetch(sources(segment) + 20);
  }

  // --- learning

  // Synapses from cells of `active` change by `up`, the others by `down`; at most 1, removed at 0 or below.
  // Returns how many from active cells are left.
  unsigned adapt(uint16_t segment, const CellSet& active, int up, int down) {
    uint16_t* from = mutable_sources(segment);
    Permanence* permanence = mutable_permanences(segment);
    unsigned kept = 0, kept_active = 0;
    for (unsigned i = 0, count = counts_[segment]; i < count; ++i) {
      bool is_active = active.has(from[i]);
      int changed = std::min(permanence[i] + (is_active ? up : down), permanence_one<Permanence>());
      if (changed <= 0) {
        index_.remove(from[i], segment);
        continue;
      }
      from[kept] = from[i];
      permanence[kept++] = static_cast<Permanence>(changed);
      kept_active += is_active;
    }
    counts_[segment] = static_cast<uint8_t>(kept);
    put_connected_first(segment);
    return kept_active;
  }

  // Adds synapses from up to `wanted` random cells that the segment has none from.  Where that would be too many
  // synapses, the weakest give way first: those not from `active`, then the others.
  void grow(uint16_t segment, int wanted, const Cells& cells, const CellSet& active, int initial, Random& random,
            Scratch& scratch) {
    if (wanted <= 0) return;
    Cells& chosen = scratch.chosen;
    const uint16_t* from = sources(segment);
    const uint16_t* end = from + counts_[segment];
    chosen.clear();
    for (uint16_t cell : cells)
      if (std::find(from, end, cell) == end) chosen.push_back(cell);
    size_t most = std::min({static_cast<size_t>(wanted), chosen.size(), static_cast<size_t>(max_synapses_)});
    random.choose(chosen, most);
    chosen.resize(most);
    unsigned count = counts_[segment] + static_cast<unsigned>(most);
    if (count > max_synapses_) remove_weakest(segment, count - max_synapses_, active, scratch);
    for (uint16_t cell : chosen) index_.add(cell, segment);
    append(segment, chosen.data(), static_cast<unsigned>(most), static_cast<Permanence>(initial));
    put_connected_first(segment);
  }

  // --- state

  size_t bytes() const {
    return index_.bytes() + blocks_.bytes() + owners_.capacity() * sizeof(uint16_t) +
           used_.capacity() * sizeof(uint32_t) + starts_.capacity() * sizeof(uint32_t) + counts_.capacity() +
           capacities_.capacity() + connected_counts_.capacity() + free_.capacity() * sizeof(uint16_t);
  }

  size_t synapses() const { return index_.synapses(); }

  // The order of a segment's synapses means nothing and is not kept.
  void save(Writer& out) const {
    std::vector<uint16_t> counts(counts_.begin(), counts_.end()), low, high;
    low.reserve(slots());
    high.reserve(slots());
    for (uint32_t row : used_) {
      low.push_back(static_cast<uint16_t>(row));
      high.push_back(static_cast<uint16_t>(row >> 16));
    }
    out.packed(owners_);
    out.packed(low);
    out.packed(high);
    out.packed(free_);
    out.packed(counts);
    save_synapses(out);
  }

  // The state that save() wrote, into an empty object.  `columns` and `cells` bound the cell numbers.
  void restore(Reader& in, unsigned columns, unsigned cells) {
    owners_ = in.packed(max_segments_, kMaxCells - 1, "segments");
    for (uint16_t owner : owners_) require_cell(owner, columns, cells);
    std::vector<uint16_t> low = in.packed(slots(), 65535, "last uses");
    std::vector<uint16_t> high = in.packed(slots(), 65535, "last uses");
    require(low.size() == slots() && high.size() == slots(), "last uses");
    for (unsigned i = 0; i < slots(); ++i) used_.push_back(low[i] | static_cast<uint32_t>(high[i]) << 16);
    free_ = in.packed(slots(), slots(), "free segments");
    std::vector<uint16_t> counts = in.packed(slots(), max_synapses_, "synapse counts");
    require(counts.size() == slots(), "synapse counts");
    check_free(counts);
    restore_synapses(in, counts, columns, cells);
  }

 private:
  static constexpr unsigned kFew = 4;             // so many active ones and more are no accident
  static constexpr unsigned kRoom = 256;          // for any segment's synapses
  static constexpr unsigned kPermanenceBits = 14;  // for any permanence

  // Words of a block that has room for so many synapses: their sources, then their permanences.
  static uint32_t block_words(size_t capacity) {
    return static_cast<uint32_t>((capacity * (sizeof(uint16_t) + sizeof(Permanence)) + 1) / 2);
  }
  static uint8_t block_size(unsigned capacity) { return Blocks::size_for(block_words(capacity)); }

  // The most synapses, even and at most 254, that a block for `count` has room for.
  static uint8_t capacity_for(unsigned count) {
    uint32_t bytes = 2 * Blocks::words_of(block_size(count));
    return static_cast<uint8_t>(std::min<size_t>(bytes / (sizeof(uint16_t) + sizeof(Permanence)), 255));
  }

  unsigned capacity(unsigned segment) const { return capacities_[segment]; }
  uint16_t* mutable_sources(unsigned segment) { return blocks_.at(starts_[segment]); }
  Permanence* mutable_permanences(unsigned segment) { return const_cast<Permanence*>(permanences(segment)); }

  void grow_tables() {
    if (owners_.size() == owners_.capacity()) {
      size_t room = std::min<size_t>(owners_.size() + owners_.size() / 16 + 64, max_segments_);
      owners_.reserve(room);
      used_.reserve(room);
      starts_.reserve(room);
      counts_.reserve(room);
      capacities_.reserve(room);
      connected_counts_.reserve(room);
    }
    owners_.push_back(0);
    used_.push_back(0);
    starts_.push_back(0);
    counts_.push_back(0);
    capacities_.push_back(0);
    connected_counts_.push_back(0);
  }

  // Room for `count` synapses; the present ones are kept.
  void make_room(unsigned segment, unsigned count) {
    if (count <= capacity(segment)) return;
    if (blocks_.should_pack(block_size(count), block_words(index_.synapses()))) pack();
    uint32_t before = starts_[segment];
    unsigned had = capacity(segment);
    take_block(segment, count);
    copy_synapses(segment, blocks_.at(before), had);
    if (had) blocks_.give_back(before, block_size(had));
  }

  // Gives every segment a block for just the synapses that it has.
  void pack() {
    std::vector<uint16_t>& old = Scratch::of_this_thread().words;
    blocks_.empty_into(old);
    for (unsigned segment = 0; segment < slots(); ++segment) {
      uint32_t before = starts_[segment];
      unsigned had = capacity(segment);
      capacities_[segment] = 0;
      if (counts_[segment] == 0) continue;
      take_block(segment, counts_[segment]);
      copy_synapses(segment, &old[before], had);
    }
  }

  void take_block(unsigned segment, unsigned count) {
    capacities_[segment] = capacity_for(count);
    starts_[segment] = blocks_.take(block_size(count));
  }

  // The segment's synapses, out of a block that has room for so many.
  void copy_synapses(unsigned segment, const uint16_t* block, unsigned room) {
    std::copy_n(block, counts_[segment], mutable_sources(segment));
    std::copy_n(reinterpret_cast<const Permanence*>(block + room), counts_[segment], mutable_permanences(segment));
  }

  void append(unsigned segment, const uint16_t* cells, unsigned added, Permanence permanence) {
    make_room(segment, counts_[segment] + added);
    std::copy_n(cells, added, mutable_sources(segment) + counts_[segment]);
    std::fill_n(mutable_permanences(segment) + counts_[segment], added, permanence);
    counts_[segment] = static_cast<uint8_t>(counts_[segment] + added);
  }

  // Whether at least `threshold` of these cells are active.  Mostly nearly all are or hardly any, and the first ones say
  // so: no more are looked at than could be inactive, and kFew.
  static bool reaches(unsigned threshold, const uint16_t* cells, unsigned count, const CellSet& active) {
    if (count < threshold) return false;
    unsigned first = std::min(count, count - threshold + kFew);
    unsigned found = count_active(cells, first, active);
    if (found + (count - first) < threshold) return false;
    return found + count_active(cells + first, count - first, active) >= threshold;
  }

  static unsigned count_active(const uint16_t* cells, unsigned count, const CellSet& active) {
    unsigned found = 0;
    for (unsigned i = 0; i < count; ++i) found += active.has(cells[i]);
    return found;
  }

  // Moves the connected synapses to the front, and counts them.
  void put_connected_first(unsigned segment) {
    uint16_t* from = mutable_sources(segment);
    Permanence* permanence = mutable_permanences(segment);
    unsigned connected = 0;
    for (unsigned i = 0; i < counts_[segment]; ++i) {  // no branch on the permanence
      bool is_connected = permanence[i] >= connected_permanence_;
      std::swap(from[i], from[connected]);
      std::swap(permanence[i], permanence[connected]);
      connected += is_connected;
    }
    connected_counts_[segment] = static_cast<uint8_t>(connected);
  }

  // Removes `surplus` synapses: first those not from `active`, of these the weakest, of equals that from the lowest
  // cell.
  void remove_weakest(uint16_t segment, unsigned surplus, const CellSet& active, Scratch& scratch) {
    uint16_t* from = mutable_sources(segment);
    Permanence* permanence = mutable_permanences(segment);
    unsigned count = counts_[segment];
    std::vector<uint8_t>& order = scratch.order;
    order.resize(count);
    for (unsigned i = 0; i < count; ++i) order[i] = static_cast<uint8_t>(i);
    auto weaker = [&](uint8_t a, uint8_t b) {
      bool a_active = active.has(from[a]), b_active = active.has(from[b]);
      if (a_active != b_active) return b_active;
      return permanence[a] != permanence[b] ? permanence[a] < permanence[b] : from[a] < from[b];
    };
    std::partial_sort(order.begin(), order.begin() + surplus, order.end(), weaker);
    order.resize(surplus);
    std::sort(order.begin(), order.end());
    unsigned kept = order[0], removed = 0;
    for (unsigned i = order[0]; i < count; ++i) {
      if (removed < surplus && order[removed] == i) {
        index_.remove(from[i], segment);
        ++removed;
        continue;
      }
      from[kept] = from[i];
      permanence[kept++] = permanence[i];
    }
    counts_[segment] = static_cast<uint8_t>(kept);
  }

  static void require_cell(uint16_t cell, unsigned columns, unsigned cells) {
    require(column_of(cell) < columns && cell % kCellsPerColumn < cells, "cell number");
  }

  void check_free(const std::vector<uint16_t>& counts) const {
    std::vector<bool> seen(slots(), false);
    for (uint16_t segment : free_) {
      require(segment < slots() && !seen[segment] && counts[segment] == 0, "free segments");
      seen[segment] = true;
    }
  }

  // For each segment which of the recent cells are among its sources, the other sources, and the permanences of all
  // in this order.
  void save_synapses(Writer& out) const {
    RecentCells recent;
    Cells others(synapses());
    std::vector<Permanence> permanences_of(synapses());
    std::vector<uint64_t> known(slots(), 0);
    uint16_t* next_other = others.data();
    Permanence* next_permanence = permanences_of.data();
    for (unsigned segment = 0; segment < slots(); ++segment) {
      const uint16_t* from = sources(segment);
      const Permanence* permanence = permanences(segment);
      Permanence recent_permanences[RecentCells::kNone + 1];
      int32_t unknown[kRoom], sorted[kRoom];  // source << kPermanenceBits | permanence
      uint64_t places = 0;
      unsigned unknowns = 0;
      for (unsigned i = 0, end = count(segment); i < end; ++i) {  // no branch that depends on the source
        unsigned place = recent.place(from[i]);
        bool is_known = place != RecentCells::kNone;
        recent_permanences[place] = permanence[i];
        places |= uint64_t{is_known} << place % 64;
        unknown[unknowns] = int32_t{from[i]} << kPermanenceBits | permanence[i];
        unknowns += !is_known;
      }
      known[segment] = places;
      for (; places; places &= places - 1) *next_permanence++ = recent_permanences[lowest_bit(places)];
      sort(unknown, unknowns, sorted);
      for (unsigned i = 0; i < unknowns; ++i) {
        uint16_t source = static_cast<uint16_t>(sorted[i] >> kPermanenceBits);
        *next_other++ = source;
        *next_permanence++ = static_cast<Permanence>(sorted[i] & ((1 << kPermanenceBits) - 1));
        recent.add(source);
      }
    }
    others.resize(static_cast<size_t>(next_other - others.data()));
    out.packed(others);
    for (uint64_t places : known) out.number(places);
    out.packed(permanences_of);
  }

  // Puts numbers, no two alike, in ascending order: each behind all that are smaller.  For so few this is fast, as no
  // branch depends on them.  `numbers` has room for kRoom and is filled up with larger ones.
  static void sort(int32_t* numbers, unsigned count, int32_t* sorted) {
    unsigned padded = (count + 7) & ~7u;
    std::fill(numbers + count, numbers + padded, std::numeric_limits<int32_t>::max());
    for (unsigned i = 0; i < count; ++i) {
      int32_t smaller = 0;
      for (unsigned other = 0; other < padded; ++other) smaller += numbers[other] < numbers[i];
      sorted[smaller] = numbers[i];
    }
  }

  void restore_synapses(Reader& in, const std::vector<uint16_t>& counts, unsigned columns, unsigned cells) {
    size_t total = 0;
    for (uint16_t count : counts) total += count;
    Cells sources_of = restore_sources(in, counts, total, columns, cells);
    std::vector<Permanence> permanences_of = in.packed<Permanence>(total, permanence_one<Permanence>(), "permanences");
    require(permanences_of.size() == total, "permanences");
    for (Permanence permanence : permanences_of) require(permanence > 0, "permanences");
    place_synapses(counts, sources_of, permanences_of);
  }

  // The sources of all segments, one segment's after the other's.
  Cells restore_sources(Reader& in, const std::vector<uint16_t>& counts, size_t total, unsigned columns,
                        unsigned cells) const {
    RecentCells recent;
    Cells others = in.packed(total, kMaxCells - 1, "synapse sources"), all(total);
    for (uint16_t cell : others) require_cell(cell, columns, cells);
    auto to = all.begin();
    size_t next = 0;
    for (uint16_t count : counts) {
      uint64_t known = in.number<uint64_t>();
      size_t first = next;
      next += count - popcount(known);
      require(popcount(known) <= count && next <= others.size() &&
                  (known == 0 || highest_bit(known) < recent.size()), "synapse sources");
      for (uint64_t rest = known; rest; rest &= rest - 1) *to++ = recent.at(lowest_bit(rest));
      for (size_t i = first; i < next; ++i) {
        require(!recent.has(others[i]) && (i == first || others[i - 1] < others[i]), "synapse sources");
        *to++ = others[i];
      }
      for (size_t i = first; i < next; ++i) recent.add(others[i]);
    }
    require(next == others.size(), "synapse sources");
    return all;
  }

  void place_synapses(const std::vector<uint16_t>& counts, const Cells& sources_of,
                      const std::vector<Permanence>& permanences_of) {
    index_.build(sources_of, counts);
    starts_.resize(slots());
    counts_.resize(slots());
    capacities_.resize(slots());
    connected_counts_.resize(slots());
    size_t words = 0;
    for (uint16_t count : counts)
      if (count) words += Blocks::words_of(block_size(count));
    blocks_.reserve(words);
    size_t first = 0;
    for (unsigned segment = 0; segment < slots(); ++segment) {
      unsigned count = counts[segment];
      if (count == 0) continue;
      take_block(segment, count);
      counts_[segment] = static_cast<uint8_t>(count);
      std::copy_n(&sources_of[first], count, mutable_sources(segment));
      std::copy_n(&permanences_of[first], count, mutable_permanences(segment));
      put_connected_first(segment);
      first += count;
    }
  }

  unsigned max_segments_, max_synapses_;
  int connected_permanence_;
  SourceIndex index_;
  Blocks blocks_;
  std::vector<uint16_t> owners_;          //: by segment: its cell
  std::vector<uint32_t> used_;            //: by segment: row of its last use
  std::vector<uint32_t> starts_;          //: by segment: its block, if its capacity is not 0
  std::vector<uint8_t> counts_;           //: by segment: its synapses
  std::vector<uint8_t> capacities_;       //: by segment: synapses that its block has room for
  std::vector<uint8_t> connected_counts_; //: by segment: its connected synapses, which come first
  std::vector<uint16_t> free_;            //: destroyed segments; the last one is used again first
};

}  // namespace htm
