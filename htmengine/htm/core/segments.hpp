// SPDX-License-Identifier: MIT
// Segments and their synapses, and what both temporal memories do with them: count active synapses, move
// permanences, grow and remove synapses, make place when there are too many segments.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "cells.hpp"
#include "palettes.hpp"
#include "random.hpp"
#include "recent_cells.hpp"
#include "scratch.hpp"
#include "serialize.hpp"

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

template <class Permanence, unsigned Words>
class Segments {
 public:
  using Places = PlaceSet<Words>;

  Segments(unsigned max_segments, unsigned max_synapses, int connected)
      : max_segments_(max_segments), max_synapses_(max_synapses), connected_permanence_(connected) {}

  // --- segments

  unsigned live() const { return slots() - static_cast<unsigned>(free_.size()); }
  unsigned slots() const { return static_cast<unsigned>(owners_.size()); }
  bool full() const { return live() == max_segments_; }

  uint16_t owner(unsigned segment) const { return owners_[segment]; }
  unsigned count(unsigned segment) const { return places_[segment].count(); }
  size_t synapses() const { return synapses_; }

  template <class Visit>
  void for_each_live(Visit visit) const {
    std::vector<bool> live(slots(), true);
    for (uint16_t segment : free_) live[segment] = false;
    for (unsigned segment = 0; segment < slots(); ++segment)
      if (live[segment]) visit(static_cast<uint16_t>(segment));
  }

  // Calls visit(source cell, permanence) for each of the segment's synapses.
  template <class Visit>
  void for_each_synapse(unsigned segment, Visit visit) const {
    const Permanence* permanence = permanences(segment);
    places_[segment].for_each([&](unsigned place) { visit(palettes_.cell(palette_[segment], place), *permanence++); });
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
    remove(segment, places_[segment]);
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

  // Calls visit(segment, count, connected) for each segment with at least `threshold` synapses from these cells: how
  // many, and how many of them are connected.  Only for segments of `wanted` cells, from which visit() may take some.
  // In no certain order.
  template <class Sources, class Visit>
  void for_each_excited(const Sources& cells, const CellSet& wanted, unsigned threshold, Scratch& scratch,
                        Visit visit) const {
    std::vector<uint64_t>& activity = scratch.activity;
    if (activity.size() < palettes_.size() * Words) activity.resize(palettes_.size() * Words, 0);
    for (const auto& cell : cells) palettes_.excite(cell, activity.data());
    uint64_t* active = activity.data();
    for (unsigned palette = 0; palette < palettes_.size(); ++palette, active += Words) {
      if (Places::count(active) >= threshold) {
        uint16_t segments[Palettes<Words>::kMost];
        unsigned found = find_wanted(palette, wanted, segments);
        for (unsigned i = 0; i < found; ++i) {
          unsigned count = places_[segments[i]].count_common(active);
          if (count >= threshold) visit(segments[i], count, connected_[segments[i]].count_common(active));
        }
      }
      std::fill_n(active, Words, uint64_t{0});
    }
  }

  // --- learning

  // Synapses from cells of `active` change by `up`, the others by `down`; at most 1, removed at 0 or below.
  // Returns how many from active cells are left.
  unsigned adapt(uint16_t segment, const CellSet& active, int up, int down) {
    const Places from_active = places_from(segment, active);
    if (up >= 0 && from_active == places_[segment]) return strengthen(segment, up);
    const Permanence* permanence = permanences(segment);
    Permanence* kept = mutable_permanences(segment);
    Places connected, gone;
    places_[segment].for_each([&](unsigned place) {
      int changed = std::min(*permanence++ + (from_active.has(place) ? up : down), permanence_one<Permanence>());
      bool stays = changed > 0;
      *kept = static_cast<Permanence>(changed);
      kept += stays;
      gone.insert_if(!stays, place);
      connected.insert_if(stays && changed >= connected_permanence_, place);
    });
    connected_[segment] = connected;
    unsigned active_gone = from_active.count_common(gone);
    remove(segment, gone);
    return from_active.count() - active_gone;
  }

  // Adds synapses from up to `wanted` random cells that the segment has none from.  Where that would be too many
  // synapses, the weakest give way first: those not from `active`, then the others.
  void grow(uint16_t segment, int wanted, const Cells& cells, const CellSet& active, int initial, Random& random,
            Scratch& scratch) {
    if (wanted <= 0) return;
    Cells& chosen = scratch.chosen;
    if (!places_[segment].empty()) palettes_.spread_out(palette_[segment], scratch);
    collect_others(segment, cells, scratch, chosen);
    size_t most = std::min({static_cast<size_t>(wanted), chosen.size(), static_cast<size_t>(max_synapses_)});
    random.choose(chosen, most);
    chosen.resize(most);
    unsigned count = this->count(segment) + static_cast<unsigned>(most);
    if (count > max_synapses_) remove_weakest(segment, count - max_synapses_, active, scratch);
    if (chosen.empty()) return;
    if (places_[segment].empty() || !palettes_.fits(palette_[segment], chosen, scratch)) move(segment, chosen, scratch);
    place(segment, chosen, scratch, [&](size_t) { return static_cast<Permanence>(initial); });
  }

  // --- state

  size_t bytes() const {
    return palettes_.bytes() + (owners_.capacity() + palette_.capacity() + free_.capacity()) * sizeof(uint16_t) +
           used_.capacity() * sizeof(uint32_t) + (places_.capacity() + connected_.capacity()) * sizeof(Places) +
           permanences_.capacity() * sizeof(Permanence);
  }

  // The order of a segment's synapses means nothing and is not kept.
  void save(Writer& out) const {
    std::vector<uint16_t> counts, low, high;
    counts.reserve(slots());
    for (const Places& places : places_) counts.push_back(static_cast<uint16_t>(places.count()));
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
  static constexpr unsigned kRoom = 256;           // for any segment's synapses
  static constexpr unsigned kPermanenceBits = 14;  // for any permanence

  const Permanence* permanences(unsigned segment) const { return &permanences_[size_t{segment} * max_synapses_]; }
  Permanence* mutable_permanences(unsigned segment) { return &permanences_[size_t{segment} * max_synapses_]; }

  void grow_tables() {
    if (owners_.size() == owners_.capacity()) {
      reserve_tables(std::min<size_t>(owners_.size() + owners_.size() / 16 + 64, max_segments_));
    }
    owners_.push_back(0);
    used_.push_back(0);
    resize_synapses();
  }

  void reserve_tables(size_t room) {
    owners_.reserve(room);
    used_.reserve(room);
    palette_.reserve(room);
    places_.reserve(room);
    connected_.reserve(room);
    permanences_.reserve(room * max_synapses_);
  }

  // As many as there are slots.
  void resize_synapses() {
    palette_.resize(slots());
    places_.resize(slots());
    connected_.resize(slots());
    permanences_.resize(size_t{slots()} * max_synapses_);
  }

  // The segment has no synapses from these places any longer; without any it has no palette.
  void remove(uint16_t segment, Places gone) {
    if (gone.empty()) return;
    unsigned palette = palette_[segment];
    places_[segment].erase(gone);
    connected_[segment].erase(gone);
    synapses_ -= gone.count();
    palettes_.give_back(palette, unused(palette, gone));
    if (places_[segment].empty()) palettes_.leave(palette, segment);
  }

  // Those of the places that no segment of the palette has a synapse from.
  Places unused(unsigned palette, Places places) const {
    const uint16_t* end = palettes_.end(palette);
    for (const uint16_t* segment = palettes_.begin(palette); segment != end && !places.empty(); ++segment)
      places.erase(places_[*segment]);
    return places;
  }

  // The palette's segments of wanted cells; returns how many.
  unsigned find_wanted(unsigned palette, const CellSet& wanted, uint16_t* found) const {
    unsigned count = 0;
    for (const uint16_t* segment = palettes_.begin(palette); segment != palettes_.end(palette); ++segment) {
      found[count] = *segment;  // no branch that depends on the cell
      count += wanted.has(owners_[*segment]);
    }
    return count;
  }

  // Where the segment's synapses from these cells are.
  Places places_from(uint16_t segment, const CellSet& cells) const {
    Places found;
    places_[segment].for_each(
        [&](unsigned place) { found.insert_if(cells.has(palettes_.cell(palette_[segment], place)), place); });
    return found;
  }

  // All synapses change by `up`, which is not negative; at most 1.  Returns how many there are.
  unsigned strengthen(uint16_t segment, int up) {
    Permanence* permanence = mutable_permanences(segment);
    const Places& all = places_[segment];
    const unsigned count = all.count();
    for (unsigned i = 0; i < count; ++i)
      permanence[i] = static_cast<Permanence>(std::min(permanence[i] + up, permanence_one<Permanence>()));
    if (connected_[segment] == all) return count;
    all.for_each([&](unsigned place) { connected_[segment].insert_if(*permanence++ >= connected_permanence_, place); });
    return count;
  }

  // Those of the cells that the segment has no synapse from.  Its palette, if it has one, is spread out.
  void collect_others(uint16_t segment, const Cells& cells, const Scratch& scratch, Cells& others) const {
    if (others.capacity() < cells.size()) others.reserve(2 * cells.size());  // sizes grow in small steps
    others.resize(cells.size());
    size_t count = 0;
    for (uint16_t cell : cells) {
      others[count] = cell;  // no branch that depends on the cell
      count += !palettes_.has(palette_[segment], cell, places_[segment], scratch);
    }
    others.resize(count);
  }

  // Gives the segment another palette, with room for synapses from these cells too.
  void move(uint16_t segment, const Cells& more, Scratch& scratch) {
    Cells& sources = scratch.sources;
    Permanence old[kRoom];
    unsigned count = 0;
    sources.clear();
    for_each_synapse(segment, [&](uint16_t source, Permanence permanence) {
      sources.push_back(source);
      old[count++] = permanence;
    });
    remove(segment, places_[segment]);
    sources.insert(sources.end(), more.begin(), more.end());
    choose_palette(segment, sources, scratch);
    sources.resize(count);
    place(segment, sources, scratch, [&](size_t i) { return old[i]; });
  }

  // For a segment that has none, and for synapses from these cells.
  void choose_palette(uint16_t segment, const Cells& sources, Scratch& scratch) {
    palette_[segment] = palettes_.find(sources, scratch);
    palettes_.join(palette_[segment], segment);
  }

  // New synapses from these cells, the i-th with permanence_of(i), in the segment's palette, which fits for them and
  // is spread out.
  template <class PermanenceOf>
  void place(uint16_t segment, const Cells& cells, Scratch& scratch, PermanenceOf permanence_of) {
    Permanence by_place[Palettes<Words>::kPlaces];
    Permanence* permanence = mutable_permanences(segment);
    Places& places = places_[segment];
    unsigned count = 0;
    places.for_each([&](unsigned place) { by_place[place] = permanence[count++]; });
    for (size_t i = 0; i < cells.size(); ++i) {
      unsigned place = palettes_.take(palette_[segment], cells[i], scratch);
      by_place[place] = permanence_of(i);
      places.insert(place);
      connected_[segment].insert_if(by_place[place] >= connected_permanence_, place);
    }
    count = 0;
    places.for_each([&](unsigned place) { permanence[count++] = by_place[place]; });
    synapses_ += cells.size();
  }

  // Removes `surplus` synapses: first those not from `active`, of these the weakest, of equals that from the lowest
  // cell.
  void remove_weakest(uint16_t segment, unsigned surplus, const CellSet& active, Scratch& scratch) {
    uint16_t from[kRoom];
    uint8_t place_of[kRoom];
    Permanence* permanence = mutable_permanences(segment);
    unsigned count = 0;
    places_[segment].for_each([&](unsigned place) {
      from[count] = palettes_.cell(palette_[segment], place);
      place_of[count++] = static_cast<uint8_t>(place);
    });
    std::vector<uint8_t>& order = scratch.order;
    order.resize(count);
    std::iota(order.begin(), order.end(), uint8_t{0});
    auto weaker = [&](uint8_t a, uint8_t b) {
      bool a_active = active.has(from[a]), b_active = active.has(from[b]);
      if (a_active != b_active) return b_active;
      return permanence[a] != permanence[b] ? permanence[a] < permanence[b] : from[a] < from[b];
    };
    std::partial_sort(order.begin(), order.begin() + surplus, order.end(), weaker);
    Places gone;
    for (unsigned i = 0; i < surplus; ++i) gone.insert(place_of[order[i]]);
    unsigned kept = 0;
    for (unsigned i = 0; i < count; ++i)
      if (!gone.has(place_of[i])) permanence[kept++] = permanence[i];
    remove(segment, gone);
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
      Permanence recent_permanences[RecentCells::kNone + 1];
      int32_t unknown[kRoom], sorted[kRoom];  // source << kPermanenceBits | permanence
      uint64_t places = 0;
      unsigned unknowns = 0;
      for_each_synapse(segment, [&](uint16_t source, Permanence permanence) {  // no branch that depends on the source
        unsigned place = recent.place(source);
        bool is_known = place != RecentCells::kNone;
        recent_permanences[place] = permanence;
        places |= uint64_t{is_known} << place % 64;
        unknown[unknowns] = int32_t{source} << kPermanenceBits | permanence;
        unknowns += !is_known;
      });
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
      require(popcount(known) <= count && next <= others.size() && (known == 0 || highest_bit(known) < recent.size()),
              "synapse sources");
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
    resize_synapses();
    palettes_.reserve(sources_of.size());
    std::vector<uint32_t> first(slots());  //: by segment: where its synapses begin
    uint32_t next = 0;
    for (unsigned segment = 0; segment < slots(); ++segment) {
      first[segment] = next;
      next += counts[segment];
    }
    Scratch& scratch = Scratch::of_this_thread();
    for (uint16_t segment : by_last_use()) {
      if (counts[segment] == 0) continue;
      auto source = sources_of.begin() + first[segment];
      scratch.sources.assign(source, source + counts[segment]);
      choose_palette(segment, scratch.sources, scratch);
      place(segment, scratch.sources, scratch, [&](size_t i) { return permanences_of[first[segment] + i]; });
    }
  }

  // Segments that learnt together last have most sources in common.
  std::vector<uint16_t> by_last_use() const {
    std::vector<uint64_t> keys(slots());
    for (unsigned segment = 0; segment < slots(); ++segment) keys[segment] = uint64_t{used_[segment]} << 16 | segment;
    std::sort(keys.begin(), keys.end());
    std::vector<uint16_t> segments(slots());
    std::transform(keys.begin(), keys.end(), segments.begin(), [](uint64_t key) { return static_cast<uint16_t>(key); });
    return segments;
  }

  unsigned max_segments_, max_synapses_;
  int connected_permanence_;
  size_t synapses_ = 0;  // of all segments
  Palettes<Words> palettes_;
  std::vector<uint16_t> owners_;         //: by segment: its cell
  std::vector<uint32_t> used_;           //: by segment: row of its last use
  std::vector<uint16_t> palette_;        //: by segment: what its places are in, if it has any
  std::vector<Places> places_;           //: by segment: where its synapses come from
  std::vector<Places> connected_;        //: by segment: those of its connected synapses
  std::vector<Permanence> permanences_;  //: by segment, room for max_synapses_ each: in the order of the places
  std::vector<uint16_t> free_;           //: destroyed segments; the last one is used again first
};

}  // namespace htm
