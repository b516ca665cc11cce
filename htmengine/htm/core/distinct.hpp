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

  static Distinct& of_this_thread() {
    static thread_local Distinct distinct;
    return distinct;
  }

  // Learns what is in an array; all that follows is about this one.
  template <class T>
  void find(const std::vector<T>& all) {
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

  // So many of the most frequent values have short codes; the other ones have this code, the escape, and their places.
  void choose_codes(uint16_t escape) {
    for (size_t place = 0; place < values_.size(); ++place)
      entries_[values_[place]] = {static_cast<uint16_t>(place), escape};
    for (uint16_t code = 0; code < escape; ++code) entries_[values_[frequent_[code]]].code = code;
    escape_ = escape;
    if (rare_.size() <= all_) rare_.resize(all_ + 1);
    rares_ = 0;
  }

  // The short codes of the array's next values; the places of those that have none are added to rare().
  template <class T>
  void encode(const T* values, size_t count, uint16_t* codes) {
    uint16_t* rare = rare_.data() + rares_;
    for (size_t i = 0; i < count; ++i) {  // no branch that depends on the value
      Entry entry = entries_[values[i]];
      codes[i] = entry.code;
      *rare = entry.place;
      rare += entry.code == escape_;
    }
    rares_ = static_cast<size_t>(rare - rare_.data());
  }

  const uint16_t* rare() const { return rare_.data(); }
  size_t rares() const { return rares_; }

 private:
  struct Entry {
    uint16_t place, code;
  };

  // Every other value is counted in another table: where one repeats, its count need not be ready for the next one.
  template <class T>
  void count(const std::vector<T>& all) {
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
  uint16_t escape_ = 0;
  std::vector<uint16_t> rare_;  // the first `rares_` are places; there is room for one more than can come
  size_t rares_ = 0;
  std::vector<uint32_t> even_ = std::vector<uint32_t>(65536, 0), odd_ = even_;  //: by value; all 0 between uses
  std::vector<Entry> entries_ = std::vector<Entry>(65536);                      //: by value
};

}  // namespace htm
