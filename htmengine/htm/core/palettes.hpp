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

#include "blocks.hpp"
#include "cells.hpp"
#include "place_set.hpp"
#include "scratch.hpp"

namespace htm {

template <unsigned Words>
class Palettes {
 public:
  using Places = PlaceSet<Words>;
  static constexpr unsigned kPlaces = 64 * Words;  // of a palette, and so the most synapses that a segment can have
  static constexpr unsigned kMost = 64;            // segments of a palette

  Palettes() : place_(kMaxColumns, 0) {}

  size_t size() const { return used_.size(); }

  // Room for about what so many synapses need: mostly eight share a place.
  void reserve(size_t synapses) { blocks_.reserve(synapses / 8); }

  uint16_t cell(unsigned palette, unsigned place) const { return cells_[palette].cells[place]; }

  // Notes in `activity`, Words words for each palette, where these cells are.
  void excite(uint16_t cell, uint64_t* activity) const { excite(only(cell), activity); }
  void excite(const ColumnCells& source, uint64_t* activity) const {
    unsigned place = place_[source.column];
    if (place == 0) return;
    const List* lists = &lists_[(place - 1) * kCellsPerColumn];
    for (uint32_t rest = source.cells; rest; rest &= rest - 1) {
      const List& list = lists[lowest_bit(rest)];
      const uint32_t* at = blocks_.at(list.block);
      for (const uint32_t* end = at + list.length; at != end; ++at)
        activity[(*at >> kPlaceBits) * Words + *at % kPlaces / 64] |= uint64_t{1} << *at % 64;
    }
  }

  // The segments that have this palette.
  const uint16_t* begin(unsigned palette) const { return cells_[palette].segments.data(); }
  const uint16_t* end(unsigned palette) const { return begin(palette) + cells_[palette].count; }

  void join(unsigned palette, uint16_t segment) { cells_[palette].segments[cells_[palette].count++] = segment; }

  void leave(unsigned palette, uint16_t segment) {
    Palette& from = cells_[palette];
    *std::find(from.segments.begin(), from.segments.end(), segment) = from.segments[from.count - 1u];
    if (--from.count == 0) empty_.push_back(static_cast<uint16_t>(palette));
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
    return places.has(place) && cells_[palette].cells[place] == cell;
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

  // One more synapse from this cell: its place.  The palette must fit for it and be spread out.
  unsigned take(unsigned palette, uint16_t cell, Scratch& scratch) {
    unsigned place = place_of(palette, cell, scratch);
    if (place == kPlaces) {
      place = used_[palette].lowest_free();
      used_[palette].insert(place);
      cells_[palette].cells[place] = cell;
      scratch.places[cell] = static_cast<uint8_t>(place);
      add_to_index(cell, palette << kPlaceBits | place);
    }
    ++cells_[palette].synapses[place];
    return place;
  }

  // One synapse less from this place.
  void give_back(unsigned palette, unsigned place) {
    if (--cells_[palette].synapses[place]) return;
    used_[palette].erase(place);
    remove_from_index(cell(palette, place), palette << kPlaceBits | place);
  }

  size_t bytes() const {
    return blocks_.bytes() + lists_.capacity() * sizeof(List) +
           (place_.capacity() + empty_.capacity()) * sizeof(uint16_t) + used_.capacity() * sizeof(Places) +
           cells_.capacity() * sizeof(Palette);
  }

 private:
  static constexpr unsigned kPlaceBits = 8;
  static constexpr uint8_t kNoBlock = 255;
  static constexpr uint16_t kNone = 65535;  // no palette: there are fewer than segments

  struct Palette {
    std::array<uint16_t, kPlaces> cells{};    //: by place
    std::array<uint8_t, kPlaces> synapses{};  //: by place: from this cell, of all segments that have this palette
    std::array<uint16_t, kMost> segments{};   // that have this palette
    uint8_t count = 0;                        // how many
  };

  // Where one cell is: for each palette that has it, palette << kPlaceBits | place.
  struct List {
    uint32_t block = 0;
    uint16_t length = 0;
    uint8_t size = kNoBlock;

    uint32_t capacity() const { return size == kNoBlock ? 0 : Blocks::words_of(size); }
  };

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
    if (cells_[palette].count == kMost) return false;
    spread_out(palette, scratch);
    size_t known = shared(palette, cells, scratch);
    return 2 * known >= cells.size() && cells.size() - known <= kPlaces - used_[palette].count();
  }

  // Of the palettes that suit the cells that with most of them; kNone without any.
  uint16_t best(const Cells& cells, Scratch& scratch) const {
    std::vector<uint16_t>& found = scratch.found;
    std::vector<uint8_t>& shared = scratch.counters;
    found.clear();
    for (uint16_t cell : cells) {
      const List* list = known_list_of(cell);
      if (list == nullptr) continue;
      const uint32_t* entries = blocks_.at(list->block);
      for (unsigned i = 0; i < list->length; ++i) {
        uint16_t palette = static_cast<uint16_t>(entries[i] >> kPlaceBits);
        if (shared[palette]++ == 0) found.push_back(palette);
      }
    }
    uint16_t best = kNone;
    size_t most = (cells.size() + 1) / 2 - 1;
    for (uint16_t palette : found) {
      size_t known = shared[palette];
      shared[palette] = 0;
      if (known <= most || cells_[palette].count == kMost || cells.size() - known > kPlaces - used_[palette].count())
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
    return static_cast<uint16_t>(size() - 1);
  }

  // --- where each cell is

  const List* known_list_of(uint16_t cell) const {
    unsigned place = place_[column_of(cell)];
    return place == 0 ? nullptr : &lists_[(place - 1) * kCellsPerColumn + cell % kCellsPerColumn];
  }

  List& list_of(uint16_t cell) {
    uint16_t& place = place_[column_of(cell)];
    if (place == 0) {
      if (lists_.size() == lists_.capacity()) lists_.reserve(lists_.size() + lists_.size() / 8 + 8 * kCellsPerColumn);
      lists_.resize(lists_.size() + kCellsPerColumn);
      place = static_cast<uint16_t>(lists_.size() / kCellsPerColumn);
    }
    return lists_[(place - 1u) * kCellsPerColumn + cell % kCellsPerColumn];
  }

  void add_to_index(uint16_t cell, uint32_t entry) {
    List& list = list_of(cell);
    if (list.length == list.capacity()) enlarge(list);
    blocks_.at(list.block)[list.length++] = entry;
    ++entries_;
  }

  void remove_from_index(uint16_t cell, uint32_t entry) {
    List& list = list_of(cell);
    uint32_t* entries = blocks_.at(list.block);
    *std::find(entries, entries + list.length, entry) = entries[list.length - 1];
    --list.length;
    --entries_;
  }

  void enlarge(List& list) {
    uint8_t size = Blocks::size_for(list.length + 1u);
    if (blocks_.should_pack(size, entries_)) pack();
    uint32_t block = blocks_.take(size);
    if (list.size != kNoBlock) {
      std::copy_n(blocks_.at(list.block), list.length, blocks_.at(block));
      blocks_.give_back(list.block, list.size);
    }
    list.block = block;
    list.size = size;
  }

  // Gives every list a block for just what it has.
  void pack() {
    std::vector<uint32_t>& old = Scratch::of_this_thread().words;
    blocks_.empty_into(old);
    for (List& list : lists_) {
      if (list.length == 0) {
        list.size = kNoBlock;
        continue;
      }
      list.size = Blocks::size_for(list.length);
      uint32_t block = blocks_.take(list.size);
      std::copy_n(&old[list.block], list.length, blocks_.at(block));
      list.block = block;
    }
  }

  std::vector<Palette> cells_;   //: by palette
  std::vector<Places> used_;     //: by palette: places that have a cell
  std::vector<uint16_t> empty_;  // palettes without cells; the last one is used again first
  uint16_t latest_ = kNone;      // that find() gave last

  size_t entries_ = 0;  // in all lists
  Blocks blocks_;
  std::vector<List> lists_;      // 32 for each column that has synapses from it
  std::vector<uint16_t> place_;  //: by column: 1 + where its 32 lists are, 0 without any
};

}  // namespace htm
