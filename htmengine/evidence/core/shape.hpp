// SPDX-License-Identifier: MIT
// Have the last rows looked like this before?  The distance of their block means to the nearest of earlier ones.
// (Discords: Keogh, Lin and Fu 2005.)
#pragma once

#include <cstring>
#include <limits>
#include <vector>

#include "rarity.hpp"
#include "recent.hpp"

namespace evidence {

// A shape is the means of kBlocks blocks that end now.  It may be found when it no longer overlaps the present.  Shapes
// overlap each other, so each block's mean is kept once; a mean that is not whole is NaN, and a shape with such a mean
// is nearest to nothing.
class Shape {
 public:
  Finding update(const Recent& recent) {
    ++rows_;
    remember(recent.rows() >= kBlockRows ? recent.sum(kBlockRows) / kBlockRows : kNotWhole);
    double distance = recent.rows() >= kSpan && found_ > kShapesLeast ? nearest() : 0.0;
    if (rows_ <= kShapeLeast) return {};
    return {rarity_.update(distance, recent.rounding()), Side::none};
  }

  // No shape reaches across a gap: so many blocks are not whole that all before may be found, and none is mixed.
  void gap() {
    for (unsigned i = 0; i < kSpan; ++i) remember(kNotWhole);
  }

  size_t bytes() const { return means_.capacity() * sizeof(double); }

  void save(Writer& out) const {
    out.varint(rows_);
    out.number(static_cast<uint8_t>(found_));
    unsigned kept = static_cast<unsigned>(std::min<size_t>(means_.size(), kMeans));
    out.varint(kept);
    for (size_t i = means_.size() - kept; i < means_.size(); ++i) out.real(means_[i]);
    rarity_.save(out);
  }

  void restore(Reader& in) {
    rows_ = in.varint();
    found_ = in.number_to<uint8_t>(kShapesLeast + 1, "too many shapes");
    uint32_t kept = in.varint();
    require(kept <= kMeans, "too many block means");
    require(found_ <= kShapesLeast || kept > kSpan + kReach + kShapesLeast, "more shapes than block means");
    means_.resize(kept);
    for (double& mean : means_) {
      mean = in.real();
      require(!(std::fabs(mean) > kFarthest), "a block mean that is too large");
    }
    rarity_.restore(in);
  }

 private:
  static constexpr double kNotWhole = std::numeric_limits<double>::quiet_NaN();
  static constexpr unsigned kLanes = 2;
  typedef double Lanes __attribute__((vector_size(kLanes * sizeof(double))));
  static constexpr unsigned kSpare = 64;  // means are moved down once in so many

  static constexpr unsigned kSpan = kBlocks * kBlockRows;  // rows; from the newest to the newest that may be found
  static constexpr unsigned kReach = kSpan - kBlockRows;   // from a shape to its oldest block
  static constexpr unsigned kMeans = kShapes + kSpan + kReach;

  void remember(double mean) {
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
    double least = least_square_distance(&means_[end - count], count);
    return least == kFar ? 0.0 : std::sqrt(least / kBlocks);
  }

  // To the nearest of `count` > kLanes shapes, whose newest blocks these are; kFar if none of them is whole.
  double least_square_distance(const double* newest, size_t count) const {
    double now[kBlocks];
    for (unsigned block = 0; block < kBlocks; ++block) now[block] = means_[means_.size() - 1 - block * kBlockRows];
    Lanes least = Lanes{} + kFar;
    for (size_t i = 0; i < count; i += kLanes) {
      const double* at = newest + std::min(i, count - kLanes);  // the last lanes overlap those before
      Lanes pairs[kBlocks / 2];                                 // the order of the sums is a part of the result
      for (unsigned block = 0; block < kBlocks / 2; ++block) {
        Lanes a = lanes_at(at - block * kBlockRows) - now[block];
        Lanes b = lanes_at(at - (block + kBlocks / 2) * kBlockRows) - now[block + kBlocks / 2];
        pairs[block] = a * a + b * b;
      }
      Lanes square = (pairs[0] + pairs[1]) + (pairs[2] + pairs[3]);
      least = square < least ? square : least;  // NaN is less than nothing
    }
    return std::min(least[0], least[1]);
  }

  static Lanes lanes_at(const double* from) {
    Lanes lanes;
    std::memcpy(&lanes, from, sizeof lanes);
    return lanes;
  }

  static constexpr double kFar = std::numeric_limits<double>::max();

  uint32_t rows_ = 0;
  std::vector<double> means_;  // of the block that ends at each remembered row, the newest last
  unsigned found_ = 0;         // shapes that may have been found so far, counted to one more than the least
  Rarity rarity_;
};

}  // namespace evidence
