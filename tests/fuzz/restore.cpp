// SPDX-License-Identifier: MIT
// Restoring from any bytes is refused with a CorruptState or gives a model that works: `make fuzz`.
// The first byte chooses the kind of model, the others are its state; tests/fuzz/seeds.py writes good ones.
#include <cstddef>
#include <cstdint>

#include "model.hpp"

namespace {

htm::ModelParams params_of(uint8_t kind) {
  htm::ModelParams params;
  params.spatial.columns = 256;
  params.spatial.active_columns = 12;
  params.temporal.activation_threshold = 5;
  params.temporal.min_threshold = 4;
  params.temporal.new_synapses = 8;
  params.temporal.max_synapses = 12;
  params.temporal.max_segments = 400;
  params.plain = kind & 1;
  params.classify = kind & 2;
  if (kind & 4) params.encoder.kind = htm::ValueKind::delta;
  if (kind & 8) params.temporal.increment = 0.0512;
  return params;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  htm::Model model(params_of(data[0]));
  try {
    model.restore(reinterpret_cast<const char*>(data + 1), size - 1);
  } catch (const htm::CorruptState&) {
    return 0;
  }
  for (int row = 0; row < 30; ++row) {
    model.row(300 * row, row * 7 % 40, true);
    if (model.classifier()) model.classifier()->predict(0);
  }
  model.save();
  return 0;
}
