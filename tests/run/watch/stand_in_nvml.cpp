// The part of NVML that an energy meter asks for: one GPU, whose meter is 1000 mJ further at each look.
#include <cstring>

namespace {

int num_users = 0;
unsigned long long millijoules = 5'000'000;
int gpu;

}  // namespace

extern "C" {

int nvmlInit_v2() {
  ++num_users;
  return 0;
}

int nvmlShutdown() {
  --num_users;
  return 0;
}

int nvmlDeviceGetHandleByPciBusId_v2(const char* bus_id, void** device) {
  if (num_users == 0 || std::strcmp(bus_id, "0000:3b:00.0") != 0) return 6;  // not found
  *device = &gpu;
  return 0;
}

int nvmlDeviceGetTotalEnergyConsumption(void* device, unsigned long long* energy) {
  if (num_users == 0 || device != &gpu) return 2;  // invalid argument
  *energy = millijoules += 1000;
  return 0;
}

}  // extern "C"
