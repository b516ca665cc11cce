// SPDX-License-Identifier: MIT
// Where synapses come from.  Segments that were made on the same row have most of their source cells in common, so
// they share a palette, a list of up to 64 cells: a segment then needs one bit a cell.  One bit a cell also says which
// are active, so a segment's active synapses are counted in one step; a cell that is active is looked up in a few
// palettes, not in hundreds of segments; and where too few of a palette's cells are active, none of its segments is
// looked at.  Which segments share a palette shows in speed and memory alone.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <vector>

#include "cell_index.hpp"
#include "cells.hpp"
#include "lists.hpp"
#include "place_set.hpp"
#include "scratch.hpp"

namespace htm {

template <unsigned Words>
class Palettes {
 public:
  using Places = PlaceSet<Words>;
  static constexpr unsigned kPlaces = 64 * Words;  // of a palette, and so the most synapses that a segment can have
  static constexpr unsigned kMost = 64;            // segments of a palette

  size_t size() const { return used_.size(); }

  // Room for about what so many synapses need: mostly eight share a place.
  void reserve(size_t synapses) { index_.reserve(synapses / 8); }

  uint16_t cell(unsigned palette, unsigned place) const { return cells_[palette][place]; }

  // Notes in `activity`, Words words for each palette, where these cells are.
  void excite(uint16_t cell, uint64_t* activity) const { excite(only(cell), activity); }
  void excite(const ColumnCells& source, uint64_t* activity) const {
    index_.for_each(source, [&](uint32_t entry) {
      activity[(entry >> kPlaceBits) * Words + entry % kPlaces / 64] |= uint64_t{1} << entry % 64;
    });
  }

  // The segments that have this palette.
  const uint16_t* begin(unsigned palette) const { return segments_.begin(palette); }
  const uint16_t* end(unsigned palette) const { return segments_.end(palette); }

  void join(unsigned palette, uint16_t segment) { segments_.push_back(palette, segment); }

  void leave(unsigned palette, uint16_t segment) {
    segments_.erase(palette, segment);
    if (segments_.length(palette) == 0) empty_.push_back(static_cast<uint16_t>(palette));
  }

  // So that has(), fits() and take() find its cells, until another palette is spread out.
  void spread_out(unsigned palette, Scratch& scratch) const {
    used_[palette].for_each(
        [&](unsigned place) { scratch.places[cell(palette, place)] = static_cast<uint8_t>(place); });
  }

  // Whether the palette, which is spread out, has the cell at one of these places, all of which it uses.  What other
  // palettes left is no harm.
  bool has(unsigned palette, uint16_t cell, const Places& places, const Scratch& scratch) const {
    unsigned place = scratch.places[cell] % kPlaces;
    return places.has(place) && this->cell(palette, place) == cell;
  }

  // Whether the palette, which is spread out, has a place for each of these cells.
  bool fits(unsigned palette, const Cells& cells, const Scratch& scratch) const {
    return cells.size() - shared(palette, cells, scratch) <= kPlaces - used_[palette].count();
  }

  // A palette for one more segment that fits for these cells, with at least half of them already in it, or else an
  // empty one.  It is spread out from now on.
  uint16_t find(const Cells& cells, Scratch& scratch) {
    if (latest_ < size() && suits(latest_, cells, scratch)) return latest_;
    latest_ = best(cells, scratch);
    if (latest_ == kNone) latest_ = empty_one();
    spread_out(latest_, scratch);
    return latest_;
  }

  // The place of a cell for which the palette, which is spread out, has or finds one.
  unsigned take(unsigned palette, uint16_t cell, Scratch& scratch) {
    unsigned place = place_of(palette, cell, scratch);
    if (place == kPlaces) {
      place = used_[palette].lowest_free();
      used_[palette].insert(place);
      cells_[palette][place] = cell;
      scratch.places[cell] = static_cast<uint8_t>(place);
      index_.add(cell, palette << kPlaceBits | place);
    }
    return place;
  }

  // No segment has a synapse from these places any longer.
  void give_back(unsigned palette, const Places& places) {
    used_[palette].erase(places);
    places.for_each([&](unsigned place) { index_.remove(cell(palette, place), palette << kPlaceBits | place); });
  }

  size_t bytes() const {
    return index_.bytes() + segments_.bytes() + empty_.capacity() * sizeof(uint16_t) +
           used_.capacity() * sizeof(Places) + cells_.capacity() * sizeof(PlaceCells);
  }

 private:
  static constexpr unsigned kPlaceBits = 8;
  static constexpr uint16_t kNone = 65535;  // no palette: there are fewer than segments

  using PlaceCells = std::array<uint16_t, kPlaces>;  //: by place

  // How many of the cells are in the palette, which is spread out.
  size_t shared(unsigned palette, const Cells& cells, const Scratch& scratch) const {
    size_t count = 0;
    for (uint16_t cell : cells) count += place_of(palette, cell, scratch) != kPlaces;
    return count;
  }

  // kPlaces if the palette, which is spread out, does not have the cell.
  unsigned place_of(unsigned palette, uint16_t cell, const Scratch& scratch) const {
    return has(palette, cell, used_[palette], scratch) ? scratch.places[cell] % kPlaces : kPlaces;
  }

  // As find() wants it; it is spread out from now on.
  bool suits(unsigned palette, const Cells& cells, Scratch& scratch) const {
    if (segments_.length(palette) == kMost) return false;
    spread_out(palette, scratch);
    size_t known = shared(palette, cells, scratch);
    return 2 * known >= cells.size() && cells.size() - known <= kPlaces - used_[palette].count();
  }

  // Of the palettes that suit the cells that with most of them; kNone without any.
  uint16_t best(const Cells& cells, Scratch& scratch) const {
    scratch.found.resize(size() + 1);
    uint16_t *found = scratch.found.data(), *end = found;
    uint8_t* shared = scratch.counters.data();
    for (uint16_t cell : cells)
      index_.for_each(only(cell), [&, shared](uint32_t entry) {
        uint16_t palette = static_cast<uint16_t>(entry >> kPlaceBits);
        *end = palette;  // no branch that depends on whether it is new
        end += shared[palette]++ == 0;
      });
    uint16_t best = kNone;
    size_t most = (cells.size() + 1) / 2 - 1;
    for (; found != end; ++found) {
      uint16_t palette = *found;
      size_t known = shared[palette];
      shared[palette] = 0;
      if (known <= most || segments_.length(palette) == kMost ||
          cells.size() - known > kPlaces - used_[palette].count())
        continue;
      most = known;
      best = palette;
    }
    return best;
  }

  uint16_t empty_one() {
    if (!empty_.empty()) {
      uint16_t palette = empty_.back();
      empty_.pop_back();
      return palette;
    }
    if (size() == used_.capacity()) {
      size_t room = size() + size() / 16 + 8;
      used_.reserve(room);
      cells_.reserve(room);
    }
    used_.emplace_back();
    cells_.emplace_back();
    segments_.add();
    return static_cast<uint16_t>(size() - 1);
  }

  std::vector<PlaceCells> cells_;  //: by palette
  std::vector<Places> used_;       //: by palette: places that have a cell
  Lists<uint16_t> segments_;       //: by palette: that have it
  std::vector<uint16_t> empty_;    // palettes without segments; the last one is used again first
  uint16_t latest_ = kNone;        // that find() gave last
  CellIndex index_;                // where each cell is: for each palette that has it, palette << kPlaceBits | place
};

}  // namespace htm
