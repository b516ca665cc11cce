// SPDX-License-Identifier: MIT
// Tables that follow from parameters and seed alone are made once a process and shared by its models.
#pragma once

#include <list>
#include <memory>
#include <mutex>
#include <utility>

namespace htm {

// The table for these parameters: an earlier one, or make(parameters).  The last eight are kept even when no
// model uses them, so that models may come and go.
template <class Table, class Parameters>
std::shared_ptr<const Table> shared_table(const Parameters& parameters) {
  static std::mutex mutex;
  static std::list<std::pair<Parameters, std::shared_ptr<const Table>>> recent;
  std::lock_guard<std::mutex> lock(mutex);
  for (auto entry = recent.begin(); entry != recent.end(); ++entry)
    if (entry->first == parameters) {
      recent.splice(recent.begin(), recent, entry);
      return recent.front().second;
    }
  recent.emplace_front(parameters, std::make_shared<const Table>(parameters));
  if (recent.size() > 8) recent.pop_back();
  return recent.front().second;
}

}  // namespace htm
