// SPDX-License-Identifier: MIT
// One model: encoders -> spatial pooler -> temporal memory, and perhaps a classifier.  Everything that outlives a
// row is in here and in save(); everything else is scratch of the thread.
#pragma once

#include <memory>
#include <string>

#include "backtracking_memory.hpp"
#include "classifier.hpp"
#include "encoders.hpp"
#include "memory.hpp"
#include "plain_memory.hpp"
#include "spatial_pooler.hpp"

namespace htm {

struct ModelParams {
  EncoderParams encoder;
  SpatialPoolerParams spatial;    // its `inputs` follows from the encoders
  TemporalMemoryParams temporal;  // its `columns` follows from the pooler
  bool plain = false;             // the plain temporal memory instead of the backtracking one
  bool classify = false;
  ClassifierParams classifier;
};

// Whether hundredths are fine enough for all permanences of the temporal memory.
inline bool in_hundredths(const TemporalMemoryParams& p) {
  for (double permanence :
       {p.initial_permanence, p.connected_permanence, p.increment, p.decrement, p.predicted_segment_decrement})
    if (std::abs(permanence * 100 - std::round(permanence * 100)) > 1e-9) return false;
  return true;
}

// Segments of up to 32 synapses leave half of a palette of 64 cells to others; larger ones get larger palettes.
template <class Permanence>
std::unique_ptr<TemporalMemory> make_memory(const TemporalMemoryParams& params, bool plain) {
  bool large = params.max_synapses > 32;
  if (plain && large) return std::make_unique<PlainMemory<Permanence, 4>>(params);
  if (plain) return std::make_unique<PlainMemory<Permanence>>(params);
  if (large) return std::make_unique<BacktrackingMemory<Permanence, 4>>(params);
  return std::make_unique<BacktrackingMemory<Permanence>>(params);
}

class Model {
 public:
  explicit Model(const ModelParams& params)
      : encoders_(params.encoder),
        pooler_(pooler_params(params, encoders_.bits())),
        memory_(in_hundredths(params.temporal) ? make_memory<uint8_t>(memory_params(params), params.plain)
                                               : make_memory<uint16_t>(memory_params(params), params.plain)) {
    if (params.classify) classifier_ = std::make_unique<Classifier>(params.classifier);
  }

  // Throws std::domain_error for a value that the encoder refuses; the model is then as before.
  void check(double value) const { encoders_.check(value); }

  // The raw score of a row that passes check(); with `learning`, the model learns from it.
  double row(int64_t timestamp, double value, bool learning) {
    unsigned bucket = encoders_.encode(timestamp, value, bits_);
    pooler_.compute(bits_, learning, columns_);
    double raw = memory_->row(columns_, learning);
    ++rows_;
    if (classifier_) {
      memory_->context(cells_);
      classifier_->row(cells_, value, bucket, learning);
    }
    return raw;
  }

  // Null without a classifier.
  const Classifier* classifier() const { return classifier_.get(); }

  uint64_t rows() const { return rows_; }
  unsigned segments() const { return memory_->segments(); }
  size_t synapses() const { return memory_->synapses(); }

  // What this model holds by itself; tables that models share are not counted.
  size_t bytes() const {
    return sizeof *this + pooler_.bytes() + memory_->bytes() + (classifier_ ? classifier_->bytes() : 0) +
           (bits_.capacity() + columns_.capacity() + cells_.capacity()) * sizeof(uint16_t);
  }

  std::string save() const {
    Writer out;
    out.number(rows_);
    encoders_.save(out);
    pooler_.save(out);
    memory_->save(out);
    if (classifier_) classifier_->save(out);
    return out.take();
  }

  // The state that save() wrote, into a new model of the same parameters.  Throws CorruptState for anything else;
  // the model is then of no further use.
  void restore(const char* data, size_t size) {
    Reader in(data, size);
    rows_ = in.number<uint64_t>();
    encoders_.restore(in);
    pooler_.restore(in);
    memory_->restore(in);
    if (classifier_) classifier_->restore(in);
    in.finish();
  }

 private:
  static SpatialPoolerParams pooler_params(const ModelParams& params, unsigned inputs) {
    SpatialPoolerParams spatial = params.spatial;
    spatial.inputs = inputs;
    return spatial;
  }

  static TemporalMemoryParams memory_params(const ModelParams& params) {
    TemporalMemoryParams temporal = params.temporal;
    temporal.columns = params.spatial.columns;
    return temporal;
  }

  Encoders encoders_;
  SpatialPooler pooler_;
  std::unique_ptr<TemporalMemory> memory_;
  std::unique_ptr<Classifier> classifier_;
  uint64_t rows_ = 0;

  Bits bits_;
  Columns columns_;
  Cells cells_;
};

}  // namespace htm
