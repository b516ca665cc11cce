// SPDX-License-Identifier: MIT
// The distinct values of an array, how often each occurs, and how each is coded in a checkpoint.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace htm {

class Distinct {
 public:
  static constexpr unsigned kMostFrequent = 15;  // that can have short codes

  // Of all values of an array the short codes, and of those whose code is the escape the places.
  struct Codes {
    std::vector<uint16_t> brief, rare;
    size_t rares = 0;
  };

  static Distinct& of_this_thread() {
    static thread_local Distinct distinct;
    return distinct;
  }

  // Learns what is in an array; all that follows is about this one.
  void find(const std::vector<uint16_t>& all) {
    count(all);
    sort_values();
    counts_.resize(values_.size());
    for (size_t place = 0; place < values_.size(); ++place) {
      uint16_t value = values_[place];
      counts_[place] = even_[value] + odd_[value];
      even_[value] = odd_[value] = 0;
    }
    find_frequent();
    all_ = all.size();
  }

  // Ascending.
  const std::vector<uint16_t>& values() const { return values_; }

  // The places of the most frequent values, these first.
  const std::vector<uint16_t>& frequent() const { return frequent_; }

  // The width of the short codes that takes the fewest bits, where a place takes `width`; 0: none, all values have
  // their places.
  unsigned best_brief_width(unsigned width) const {
    unsigned best = 0;
    size_t best_bits = all_ * width, covered = 0;
    for (unsigned brief = 1, next = 0; brief < width && (1u << brief) - 1 <= kMostFrequent; ++brief) {
      for (; next < (1u << brief) - 1; ++next) covered += counts_[frequent_[next]];
      size_t needed = ((1u << brief) - 1) * width + all_ * brief + (all_ - covered) * width;
      if (needed < best_bits) best = brief, best_bits = needed;
    }
    return best;
  }

  // The array in codes, where so many of the most frequent values have short ones.
  const Codes& encode(const std::vector<uint16_t>& all, uint16_t escape) {
    for (size_t place = 0; place < values_.size(); ++place)
      entries_[values_[place]] = {static_cast<uint16_t>(place), escape};
    for (uint16_t code = 0; code < escape; ++code) entries_[values_[frequent_[code]]].code = code;
    if (codes_.brief.size() < all.size()) codes_.brief.resize(all.size()), codes_.rare.resize(all.size());
    uint16_t *brief = codes_.brief.data(), *rare = codes_.rare.data();
    for (uint16_t value : all) {  // no branch that depends on the value
      Entry entry = entries_[value];
      *brief++ = entry.code;
      *rare = entry.place;
      rare += entry.code == escape;
    }
    codes_.rares = static_cast<size_t>(rare - codes_.rare.data());
    return codes_;
  }

 private:
  struct Entry {
    uint16_t place, code;
  };

  // Every other value is counted in another table: where one repeats, its count need not be ready for the next one.
  void count(const std::vector<uint16_t>& all) {
    values_.clear();
    for (size_t i = 0; i + 1 < all.size(); i += 2) {
      count(all[i], even_);
      count(all[i + 1], odd_);
    }
    if (all.size() % 2) count(all.back(), even_);
  }

  void count(uint16_t value, std::vector<uint32_t>& table) {
    if (even_[value] + odd_[value] == 0) values_.push_back(value);
    ++table[value];
  }

  void sort_values() {
    if (values_.size() < 1024) {
      std::sort(values_.begin(), values_.end());
      return;
    }
    values_.clear();  // of so many, a walk over all numbers is faster
    for (uint32_t value = 0; value < even_.size(); ++value)
      if (even_[value] + odd_[value]) values_.push_back(static_cast<uint16_t>(value));
  }

  void find_frequent() {
    frequent_.resize(values_.size());
    for (size_t i = 0; i < values_.size(); ++i) frequent_[i] = static_cast<uint16_t>(i);
    auto last = frequent_.begin() + std::min<std::ptrdiff_t>(kMostFrequent, frequent_.end() - frequent_.begin());
    std::partial_sort(frequent_.begin(), last, frequent_.end(), [&](uint16_t a, uint16_t b) {
      return counts_[a] != counts_[b] ? counts_[a] > counts_[b] : a < b;
    });
    frequent_.erase(last, frequent_.end());
  }

  size_t all_ = 0;
  std::vector<uint16_t> values_;
  std::vector<uint32_t> counts_;  //: by place in `values_`
  std::vector<uint16_t> frequent_;
  Codes codes_;
  std::vector<uint32_t> even_ = std::vector<uint32_t>(65536, 0), odd_ = even_;  //: by value; all 0 between uses
  std::vector<Entry> entries_ = std::vector<Entry>(65536);                       //: by value
};

}  // namespace htm
