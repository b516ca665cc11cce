// SPDX-License-Identifier: MIT
// Counts what a model allocates while it learns; tests/integration/test_allocations.py builds and runs it.
//
//     allocations KIND SEGMENTS REPEATS < rows
//
// KIND is "backtracking", "bursting" or "plain", SEGMENTS the most that the memory may have, and each row "timestamp
// value"; all rows are learnt REPEATS times, one after the other.  Prints the allocations of each thousand rows.
#include <cstdlib>
#include <iostream>
#include <new>
#include <string>

#include "model.hpp"

static size_t allocations = 0;

void* operator new(size_t size) {
  ++allocations;
  if (void* memory = std::malloc(size)) return memory;
  throw std::bad_alloc();
}
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, size_t) noexcept { std::free(memory); }

int main(int, char** arguments) {
  std::string kind = arguments[1];
  htm::ModelParams params;
  params.encoder.date.push_back({htm::Aspect::time_of_day, {54, 21, 0, 24, 9.49 / 21, true}});
  params.plain = kind == "plain";
  if (kind == "bursting") params.temporal.max_inference = 0;
  params.temporal.max_segments = static_cast<unsigned>(std::stoul(arguments[2]));
  std::vector<std::pair<int64_t, double>> rows;
  int64_t timestamp;
  for (double value; std::cin >> timestamp >> value;) rows.emplace_back(timestamp, value);

  htm::Model model(params);
  size_t before = allocations;
  for (unsigned long repeat = std::stoul(arguments[3]); repeat > 0; --repeat)
    for (const auto& row : rows) {
      model.row(row.first, row.second, true);
      if (model.rows() % 1000 == 0) {
        std::cout << allocations - before << '\n';
        before = allocations;
      }
    }
}
