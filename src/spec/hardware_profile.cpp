#include "spec/hardware_profile.hpp"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "base/error.hpp"

namespace flexgen {
namespace {

using Json = nlohmann::ordered_json;

template <class Rates, class Rate>
double best_of(const Rates& rates, Rate Rates::value_type::*rate) {
  double best = 0;
  for (const auto& point : rates) best = std::max(best, point.*rate);
  return best;
}

// One overload pair per struct; lists of them by the templates below, which must know all that they are used with.
Json encode(const LinkProfile& l);
void decode(const Json& j, LinkProfile& l);

Json encode(const CopyRate& r) { return {{"chunk_bytes", r.chunk_bytes}, {"bytes_per_second", r.bytes_per_second}}; }
Json encode(const ThreadRate& r) { return {{"num_threads", r.num_threads}, {"bytes_per_second", r.bytes_per_second}}; }
Json encode(const MatrixRate& r) {
  return {{"dtype", dtype_name(r.dtype)},
          {"rows", r.rows},
          {"size", r.size},
          {"operations_per_second", r.operations_per_second}};
}
Json encode(const DiskRate& r) {
  return {{"block_bytes", r.block_bytes}, {"queue_depth", r.queue_depth}, {"bytes_per_second", r.bytes_per_second}};
}
Json encode(const SharedMemoryRate& r) {
  return {{"num_threads", r.num_threads},
          {"read_bytes_per_second", r.read_bytes_per_second},
          {"host_to_gpu_bytes_per_second", r.host_to_gpu_bytes_per_second}};
}

template <class T>
Json encode_list(const std::vector<T>& list) {
  Json array = Json::array();
  for (const T& element : list) array.push_back(encode(element));
  return array;
}

Json encode(const LinkProfile& l) {
  return {{"transport", l.transport},
          {"from", l.from},
          {"to", l.to},
          {"same_machine", l.same_machine},
          {"latency_seconds", l.latency_seconds},
          {"rates", encode_list(l.rates)}};
}

Json encode(const HostProfile& h) {
  return {{"num_processors", h.num_processors},
          {"read", encode_list(h.read)},
          {"copy", encode_list(h.copy)},
          {"matrix", encode_list(h.matrix)}};
}

Json encode(const GpuProfile& g) {
  return {{"name", g.name},
          {"host_to_gpu", encode_list(g.host_to_gpu)},
          {"gpu_to_host", encode_list(g.gpu_to_host)},
          {"both_directions", encode_list(g.both_directions)},
          {"pageable_host_to_gpu_bytes_per_second", g.pageable_host_to_gpu_bytes_per_second},
          {"memory_bytes_per_second", g.memory_bytes_per_second},
          {"matrix", encode_list(g.matrix)},
          {"beside_host_reads", encode_list(g.beside_host_reads)}};
}

Json encode(const DiskProfile& d) {
  return {{"directory", d.directory},     {"method", d.method}, {"direct", d.direct},
          {"file_bytes", d.file_bytes},   {"note", d.note},     {"read", encode_list(d.read)},
          {"write", encode_list(d.write)}};
}

// Numbers of a profile are sizes, counts and rates: a negative or infinite one is a damaged file.
template <class T>
void read(const Json& from, const char* name, T& to) {
  to = from.at(name).get<T>();
  if constexpr (std::is_arithmetic_v<T> && !std::is_same_v<T, bool>) {
    if (!std::isfinite(static_cast<double>(to)) || from.at(name).get<double>() < 0)
      throw std::domain_error(std::string("'") + name + "' must be a number that is not negative");
  }
}

void decode(const Json& j, CopyRate& r) {
  read(j, "chunk_bytes", r.chunk_bytes);
  read(j, "bytes_per_second", r.bytes_per_second);
}
void decode(const Json& j, ThreadRate& r) {
  read(j, "num_threads", r.num_threads);
  read(j, "bytes_per_second", r.bytes_per_second);
}
void decode(const Json& j, MatrixRate& r) {
  r.dtype = parse_dtype(j.at("dtype").get<std::string>());
  read(j, "rows", r.rows);
  read(j, "size", r.size);
  read(j, "operations_per_second", r.operations_per_second);
}
void decode(const Json& j, DiskRate& r) {
  read(j, "block_bytes", r.block_bytes);
  read(j, "queue_depth", r.queue_depth);
  read(j, "bytes_per_second", r.bytes_per_second);
}
void decode(const Json& j, SharedMemoryRate& r) {
  read(j, "num_threads", r.num_threads);
  read(j, "read_bytes_per_second", r.read_bytes_per_second);
  read(j, "host_to_gpu_bytes_per_second", r.host_to_gpu_bytes_per_second);
}

template <class T>
void decode_list(const Json& from, const char* name, std::vector<T>& to) {
  for (const Json& element : from.at(name)) decode(element, to.emplace_back());
}

void decode(const Json& j, LinkProfile& l) {
  read(j, "transport", l.transport);
  read(j, "from", l.from);
  read(j, "to", l.to);
  read(j, "same_machine", l.same_machine);
  read(j, "latency_seconds", l.latency_seconds);
  decode_list(j, "rates", l.rates);
}

void decode(const Json& j, HostProfile& h) {
  read(j, "num_processors", h.num_processors);
  decode_list(j, "read", h.read);
  decode_list(j, "copy", h.copy);
  decode_list(j, "matrix", h.matrix);
}

void decode(const Json& j, GpuProfile& g) {
  read(j, "name", g.name);
  decode_list(j, "host_to_gpu", g.host_to_gpu);
  decode_list(j, "gpu_to_host", g.gpu_to_host);
  decode_list(j, "both_directions", g.both_directions);
  read(j, "pageable_host_to_gpu_bytes_per_second", g.pageable_host_to_gpu_bytes_per_second);
  read(j, "memory_bytes_per_second", g.memory_bytes_per_second);
  decode_list(j, "matrix", g.matrix);
  decode_list(j, "beside_host_reads", g.beside_host_reads);
}

void decode(const Json& j, DiskProfile& d) {
  read(j, "directory", d.directory);
  read(j, "method", d.method);
  read(j, "direct", d.direct);
  read(j, "file_bytes", d.file_bytes);
  read(j, "note", d.note);
  decode_list(j, "read", d.read);
  decode_list(j, "write", d.write);
}

HardwareProfile decode_profile(const Json& j) {
  HardwareProfile p;
  read(j, "schema_version", p.schema_version);
  if (p.schema_version != 1)
    throw std::domain_error("schema_version is " + std::to_string(p.schema_version) + ", this program reads 1");
  read(j, "program", p.program);
  read(j, "host", p.host);
  read(j, "measured_at", p.measured_at);
  read(j, "quick", p.quick);
  decode(j.at("memory"), p.memory);
  if (!j.at("gpu").is_null()) decode(j["gpu"], p.gpu.emplace());
  if (!j.at("disk").is_null()) decode(j["disk"], p.disk.emplace());
  decode_list(j, "links", p.links);
  return p;
}

}  // namespace

double best_rate(const std::vector<CopyRate>& rates) { return best_of(rates, &CopyRate::bytes_per_second); }
double best_rate(const std::vector<ThreadRate>& rates) { return best_of(rates, &ThreadRate::bytes_per_second); }
double best_rate(const std::vector<DiskRate>& rates) { return best_of(rates, &DiskRate::bytes_per_second); }

double best_rate(const std::vector<MatrixRate>& rates, DType dtype) {
  double best = 0;
  for (const MatrixRate& point : rates)
    if (point.dtype == dtype) best = std::max(best, point.operations_per_second);
  return best;
}

double link_rate(const std::vector<LinkProfile>& links, std::string_view transport) {
  double within = 0;
  double between = 0;
  for (const LinkProfile& link : links)
    if (link.transport == transport)
      (link.same_machine ? within : between) = std::max(link.same_machine ? within : between, best_rate(link.rates));
  return between > 0 ? between : within;
}

std::string to_json(const HardwareProfile& p) {
  const Json json = {{"schema_version", p.schema_version},
                     {"program", p.program},
                     {"host", p.host},
                     {"measured_at", p.measured_at},
                     {"quick", p.quick},
                     {"memory", encode(p.memory)},
                     {"gpu", p.gpu ? encode(*p.gpu) : Json()},
                     {"disk", p.disk ? encode(*p.disk) : Json()},
                     {"links", encode_list(p.links)}};
  return json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

HardwareProfile parse_hardware_profile(std::string_view text, const std::string& where) {
  try {
    return decode_profile(Json::parse(text));
  } catch (const std::exception& error) {
    throw UserError(ExitCode::file, "'" + where + "' is no hardware profile", error.what(),
                    "Measure a new one with flexgen-dist profile");
  }
}

}  // namespace flexgen
