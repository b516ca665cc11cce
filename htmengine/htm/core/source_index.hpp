// SPDX-License-Identifier: MIT
// The synapses the other way round: from a cell to the segments that it excites.  Most of a row's time is spent here.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "blocks.hpp"
#include "cells.hpp"
#include "scratch.hpp"

namespace htm {

// From each source cell to the segments that have a synapse from it.
class SourceIndex {
 public:
  SourceIndex() : place_(kMaxColumns, 0) {}

  void add(uint16_t cell, uint16_t segment) {
    List& list = list_of(cell);
    if (list.length == list.capacity()) enlarge(list);
    blocks_.at(list.block)[list.length++] = segment;
    ++synapses_;
  }

  void remove(uint16_t cell, uint16_t segment) {
    List& list = list_of(cell);
    uint16_t* segments = blocks_.at(list.block);
    segments[position(segments, list.length, segment)] = segments[list.length - 1];
    --list.length;
    --synapses_;
  }

  // Adds 1 to the counter of each segment, once for each of its synapses from these cells.
  void count_from(const ColumnCells& source, uint8_t* counters) const {
    unsigned place = place_[source.column];
    if (place == 0) return;
    const List* lists = &lists_[(place - 1) * kCellsPerColumn];
    for (uint32_t rest = source.cells; rest; rest &= rest - 1) {
      const List& list = lists[lowest_bit(rest)];
      const uint16_t* segments = blocks_.at(list.block);
      const uint16_t* end = segments + list.length;
      for (; segments != end; ++segments) ++counters[*segments];
    }
  }

  // Makes all lists at once, none longer than it must be, of an empty index.  `sources`: those of segment 0, then of
  // segment 1 and so on; `counts`: how many each has.
  void build(const Cells& sources, const std::vector<uint16_t>& counts) {
    std::vector<uint32_t> lengths(kMaxCells, 0);
    for (uint16_t cell : sources) ++lengths[cell];
    size_t words = 0;
    for (uint32_t length : lengths)
      if (length) words += Blocks::words_of(Blocks::size_for(length));
    blocks_.reserve(words);
    std::vector<uint32_t> next(kMaxCells);  // by cell: where its next segment goes
    for (unsigned cell = 0; cell < kMaxCells; ++cell)
      if (lengths[cell]) {
        List& list = list_of(static_cast<uint16_t>(cell));
        list.size = Blocks::size_for(lengths[cell]);
        list.block = next[cell] = blocks_.take(list.size);
        list.length = static_cast<uint16_t>(lengths[cell]);
      }
    const uint16_t* source = sources.data();
    for (unsigned segment = 0; segment < counts.size(); ++segment)
      for (unsigned i = 0; i < counts[segment]; ++i) *blocks_.at(next[*source++]++) = static_cast<uint16_t>(segment);
    synapses_ = sources.size();
  }

  size_t synapses() const { return synapses_; }

  size_t bytes() const {
    return blocks_.bytes() + lists_.capacity() * sizeof(List) + place_.capacity() * sizeof(uint16_t);
  }

 private:
  static constexpr uint8_t kNoBlock = 255;

  struct List {
    uint32_t block = 0;
    uint16_t length = 0;
    uint8_t size = kNoBlock;

    uint32_t capacity() const { return size == kNoBlock ? 0 : Blocks::words_of(size); }
  };

  List& list_of(uint16_t cell) {
    uint16_t& place = place_[column_of(cell)];
    if (place == 0) {
      if (lists_.size() == lists_.capacity()) lists_.reserve(lists_.size() + lists_.size() / 8 + 8 * kCellsPerColumn);
      lists_.resize(lists_.size() + kCellsPerColumn);
      place = static_cast<uint16_t>(lists_.size() / kCellsPerColumn);
    }
    return lists_[(place - 1u) * kCellsPerColumn + cell % kCellsPerColumn];
  }

  void enlarge(List& list) {
    uint8_t size = Blocks::size_for(list.length + 1u);
    if (blocks_.should_pack(size, synapses_)) pack();
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
    std::vector<uint16_t>& old = Scratch::of_this_thread().words;
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

  // Searched from the end, where the young synapses are that go most often; 16 at a time, which compilers
  // turn into vector instructions.
  static unsigned position(const uint16_t* segments, unsigned length, uint16_t wanted) {
    while (length >= 16) {
      const uint16_t* last = segments + length - 16;
      uint16_t found = 0;
      for (unsigned i = 0; i < 16; ++i) found |= static_cast<uint16_t>(last[i] == wanted);
      if (found) break;
      length -= 16;
    }
    while (segments[--length] != wanted) {
    }
    return length;
  }

  size_t synapses_ = 0;          // in all lists
  Blocks blocks_;
  std::vector<List> lists_;      // 32 for each column that has synapses from it
  std::vector<uint16_t> place_;  //: by column: 1 + where its 32 lists are, 0 without any
};

}  // namespace htm
