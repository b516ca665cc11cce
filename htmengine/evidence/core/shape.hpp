// SPDX-License-Identifier: MIT
// Have the last rows looked like this before?  The distance of their block means to the nearest of earlier ones.
// (Discords: Keogh, Lin and Fu 2005.)
#pragma once

#include <cstring>
#include <limits>
#include <vector>

#include "rarity.hpp"

namespace evidence {

// A shape is the means of kBlocks blocks that end now.  It may be found when it no longer overlaps the present.  Shapes
// overlap each other, so each block's mean is kept once; a mean that is not whole is NaN, and a shape with such a mean
// is nearest to nothing.
class Shape {
 public:
  Shape() : sums_(kSpan + 1, 0.0) {}

  Finding update(double value) {
    ++rows_;
    add(value);
    remember(since_gap_ >= kBlockRows ? block_mean(0) : kNotWhole);
    double distance = since_gap_ >= kSpan && found_ > kShapesLeast ? nearest() : 0.0;
    if (rows_ <= kShapeLeast) return {};
    return {rarity_.update(distance), Side::none};
  }

  // No shape reaches across a gap: so many blocks are not whole that all before may be found, and none is mixed.
  void gap() {
    since_gap_ = place_ = 0;
    sums_.assign(sums_.size(), 0.0);
    for (unsigned i = 0; i < kSpan; ++i) remember(kNotWhole);
  }

  size_t bytes() const { return sums_.capacity() * sizeof(double) + means_.capacity() * sizeof(float); }

  void save(Writer& out) const {
    out.varint(rows_);
    out.varint(since_gap_);
    for (unsigned i = sums_kept(); i-- > 0;) out.real(sum_back(i));
    out.number(static_cast<uint8_t>(found_));
    unsigned kept = static_cast<unsigned>(std::min<size_t>(means_.size(), kMeans));
    out.varint(kept);
    for (size_t i = means_.size() - kept; i < means_.size(); ++i) out.real32(means_[i]);
    rarity_.save(out);
  }

  void restore(Reader& in) {
    rows_ = in.varint();
    since_gap_ = in.varint();
    place_ = 0;
    for (unsigned i = 0, kept = sums_kept(); i < kept; ++i) {
      sums_[i] = finite(in);
      place_ = i;
    }
    found_ = in.number_to<uint8_t>(kShapesLeast + 1, "too many shapes");
    uint32_t kept = in.varint();
    require(kept <= kMeans, "too many block means");
    require(found_ <= kShapesLeast || kept > kSpan + kReach + kShapesLeast, "more shapes than block means");
    means_.resize(kept);
    for (float& mean : means_) {
      mean = in.real32();
      require(!(std::fabs(mean) > static_cast<float>(kShapeLargest)), "a block mean that is too large");
    }
    rarity_.restore(in);
  }

 private:
  static constexpr float kNotWhole = std::numeric_limits<float>::quiet_NaN();
  static constexpr unsigned kLanes = 4;
  typedef float Lanes __attribute__((vector_size(kLanes * sizeof(float))));
  static constexpr unsigned kSpare = 64;  // means are moved down once in so many

  static constexpr unsigned kSpan = kBlocks * kBlockRows;  // rows; from the newest to the newest that may be found
  static constexpr unsigned kReach = kSpan - kBlockRows;   // from a shape to its oldest block
  static constexpr unsigned kMeans = kShapes + kSpan + kReach;
  unsigned sums_kept() const { return std::min<uint32_t>(since_gap_, kSpan) + 1; }

  // The sum of all values since the gap, up to so many rows ago.
  double sum_back(unsigned rows) const { return sums_[place_ >= rows ? place_ - rows : place_ + sums_.size() - rows]; }

  void add(double value) {
    double sum = sums_[place_] + value;
    place_ = place_ + 1 == sums_.size() ? 0 : place_ + 1;
    sums_[place_] = sum;
    ++since_gap_;
  }

  // The mean of the block that ends so many blocks ago.
  float block_mean(unsigned blocks) const {
    double mean = (sum_back(blocks * kBlockRows) - sum_back((blocks + 1) * kBlockRows)) / kBlockRows;
    return static_cast<float>(std::min(std::max(mean, -kShapeLargest), kShapeLargest));
  }

  void remember(float mean) {
    if (means_.size() == kMeans + kSpare) means_.erase(means_.begin(), means_.begin() + kSpare);
    append(means_, mean, kMeans + kSpare);
    if (found_ <= kShapesLeast && means_.size() > kSpan + kReach && is_whole(means_.size() - 1 - kSpan)) ++found_;
  }

  bool is_whole(size_t newest) const {
    for (unsigned block = 0; block < kBlocks; ++block)
      if (std::isnan(means_[newest - block * kBlockRows])) return false;
    return true;
  }

  // The root mean square distance of the present shape to the nearest that may be found.
  double nearest() const {
    size_t end = means_.size() - kSpan;
    size_t count = std::min<size_t>(kShapes, end - kReach);
    float least = least_square_distance(&means_[end - count], count);
    return least == kFar ? 0.0 : std::sqrt(static_cast<double>(least) / kBlocks);
  }

  // To the nearest of `count` > kLanes shapes, whose newest blocks these are; kFar if none of them is whole.
  float least_square_distance(const float* newest, size_t count) const {
    float now[kBlocks];
    for (unsigned block = 0; block < kBlocks; ++block) now[block] = block_mean(block);
    Lanes least = Lanes{} + kFar;
    for (size_t i = 0; i < count; i += kLanes) {
      const float* at = newest + std::min(i, count - kLanes);  // the last lanes overlap those before
      Lanes pairs[kBlocks / 2];                                // the order of the sums is a part of the result
      for (unsigned block = 0; block < kBlocks / 2; ++block) {
        Lanes a = lanes_at(at - block * kBlockRows) - now[block];
        Lanes b = lanes_at(at - (block + kBlocks / 2) * kBlockRows) - now[block + kBlocks / 2];
        pairs[block] = a * a + b * b;
      }
      Lanes square = (pairs[0] + pairs[1]) + (pairs[2] + pairs[3]);
      least = square < least ? square : least;  // NaN is less than nothing
    }
    return std::min(std::min(least[0], least[1]), std::min(least[2], least[3]));
  }

  static Lanes lanes_at(const float* from) {
    Lanes lanes;
    std::memcpy(&lanes, from, sizeof lanes);
    return lanes;
  }

  static constexpr float kFar = std::numeric_limits<float>::max();

  std::vector<double> sums_;  // running sums, a ring
  unsigned place_ = 0;        // of the newest sum
  uint32_t rows_ = 0, since_gap_ = 0;
  std::vector<float> means_;  // of the block that ends at each remembered row, the newest last
  unsigned found_ = 0;        // shapes that may have been found so far, counted to one more than the least
  Rarity rarity_;
};

}  // namespace evidence
