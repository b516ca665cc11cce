// SPDX-License-Identifier: MIT
// Many short lists of numbers in one array.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "blocks.hpp"

namespace htm {

template <class Item>
class Lists {
 public:
  size_t size() const { return lists_.size(); }

  // One more list, empty; its number is what size() was.
  void add() {
    if (lists_.size() == lists_.capacity()) lists_.reserve(lists_.size() + lists_.size() / 16 + 8);
    lists_.emplace_back();
  }

  unsigned length(unsigned list) const { return lists_[list].length; }
  const Item* begin(unsigned list) const { return blocks_.at(lists_[list].block); }
  const Item* end(unsigned list) const { return begin(list) + length(list); }
  Item* begin(unsigned list) { return blocks_.at(lists_[list].block); }
  Item* end(unsigned list) { return begin(list) + length(list); }

  // Makes a list longer, at its end, or shorter.  Pointers into lists do not survive this call.
  void resize(unsigned list, unsigned length) {
    if (length > capacity(lists_[list])) enlarge(lists_[list], length);
    used_ += length;
    used_ -= lists_[list].length;
    lists_[list].length = length & 0xFFFFFF;
  }

  void push_back(unsigned list, Item item) {
    resize(list, length(list) + 1);
    end(list)[-1] = item;
  }

  // Its last item takes the place of this one.
  void erase(unsigned list, Item item) {
    *std::find(begin(list), end(list), item) = end(list)[-1];
    resize(list, length(list) - 1);
  }

  void reserve(size_t items) { blocks_.reserve(items); }
  size_t bytes() const { return blocks_.bytes() + lists_.capacity() * sizeof(List); }

 private:
  static constexpr uint32_t kNoBlock = 255;

  struct List {
    uint32_t block = 0;
    uint32_t length : 24, size : 8;  // size: of the block

    List() : length(0), size(kNoBlock) {}
  };

  static unsigned capacity(const List& list) {
    return list.size == kNoBlock ? 0 : Blocks<Item>::words_of(static_cast<uint8_t>(list.size));
  }

  void enlarge(List& list, unsigned length) {
    uint8_t size = Blocks<Item>::size_for(length);
    if (blocks_.should_pack(size, used_)) pack();
    uint32_t block = blocks_.take(size);
    if (list.size != kNoBlock) {
      std::copy_n(blocks_.at(list.block), list.length, blocks_.at(block));
      blocks_.give_back(list.block, static_cast<uint8_t>(list.size));
    }
    list.block = block;
    list.size = size;
  }

  // Gives every list a block for just what it has.
  void pack() {
    static thread_local std::vector<Item> old;
    blocks_.empty_into(old);
    for (List& list : lists_) {
      if (list.length == 0) {
        list.size = kNoBlock;
        continue;
      }
      list.size = Blocks<Item>::size_for(list.length);
      uint32_t block = blocks_.take(static_cast<uint8_t>(list.size));
      std::copy_n(&old[list.block], list.length, blocks_.at(block));
      list.block = block;
    }
  }

  std::vector<List> lists_;
  size_t used_ = 0;  // items of all lists
  Blocks<Item> blocks_;
};

}  // namespace htm
