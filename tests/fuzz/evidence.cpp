// SPDX-License-Identifier: MIT
// Restoring a detector from any bytes is refused with a CorruptState or gives one that works: `make fuzz`.
#include <cstddef>
#include <cstdint>

#include "detector.hpp"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  try {
    evidence::Detector detector = evidence::Detector::restored(reinterpret_cast<const char*>(data), size);
    for (int row = 0; row < 30; ++row) detector.update(4'000'000 + 1200 * row, row * 7 % 40, row % 2);
    detector.expected();
    detector.save();
  } catch (const htm::CorruptState&) {
  }
  return 0;
}
