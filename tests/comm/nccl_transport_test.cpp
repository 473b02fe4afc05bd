// Started by mpirun on 2 ranks; transfers need a GPU per rank, refusals need none.
#include "comm/nccl_transport.hpp"

#include <cuda_runtime_api.h>
#include <gtest/gtest.h>

#include <cstring>
#include <string>
#include <vector>

#include "tests/support/mpi_main.hpp"

namespace flexgen::test {
namespace {

Communicator& ranks() { return mpi_session().communicator(); }

int num_gpus() {
  int count = 0;
  return cudaGetDeviceCount(&count) == cudaSuccess ? count : 0;
}

/// Device memory that is filled from and compared with the host.
class DeviceBytes {
 public:
  explicit DeviceBytes(std::size_t size) : size_(size) { EXPECT_EQ(cudaMalloc(&data_, size + 1), cudaSuccess); }
  ~DeviceBytes() { cudaFree(data_); }
  DeviceBytes(const DeviceBytes&) = delete;
  DeviceBytes& operator=(const DeviceBytes&) = delete;

  std::span<std::byte> span() const { return {static_cast<std::byte*>(data_), size_}; }
  void write(const std::vector<std::byte>& bytes) {
    EXPECT_EQ(cudaMemcpy(data_, bytes.data(), size_, cudaMemcpyHostToDevice), cudaSuccess);
  }
  std::vector<std::byte> read() const {
    std::vector<std::byte> bytes(size_);
    EXPECT_EQ(cudaMemcpy(bytes.data(), data_, size_, cudaMemcpyDeviceToHost), cudaSuccess);
    return bytes;
  }

 private:
  std::size_t size_;
  void* data_ = nullptr;
};

std::vector<std::byte> pattern(std::size_t size, int message) {
  std::vector<std::byte> bytes(size);
  for (std::size_t i = 0; i < size; ++i)
    bytes[i] = static_cast<std::byte>((i * 13 + static_cast<std::size_t>(message) * 7) & 255);
  return bytes;
}

TEST(NcclTransport, RefusesTwoRanksOnOneGpuAndRanksWithout) {
  if (ranks().size() < 2) GTEST_SKIP() << "needs two ranks";
  try {
    make_nccl_transport(ranks(), mpi_session().make_transport(), {.device = 0, .set_up_seconds = 30, .on_failure = {}});
    // Every rank may have been given a GPU of its own (CUDA_VISIBLE_DEVICES): then there is nothing to refuse.
    GTEST_SKIP() << "device 0 is another GPU on every rank";
  } catch (const AgreedError& error) {
    const std::string text = error.what();
    EXPECT_EQ(error.code(), ExitCode::communication);
    EXPECT_NE(text.find(num_gpus() > 0 ? "share the GPU at" : "GPU 0 is not there"), std::string::npos) << text;
    EXPECT_NE(text.find("MPI transport"), std::string::npos) << text;
  }
}

class NcclTransfers : public ::testing::Test {
 protected:
  void SetUp() override {
    if (num_gpus() < ranks().local_size()) GTEST_SKIP() << "needs a GPU per rank";
    ASSERT_EQ(cudaSetDevice(ranks().local_rank()), cudaSuccess);
    transport_ = make_nccl_transport(ranks(), mpi_session().make_transport(),
                                     {.device = ranks().local_rank(), .set_up_seconds = 60, .on_failure = {}});
  }
  bool is_first() const { return ranks().rank() == 0; }
  bool is_last() const { return ranks().rank() == ranks().size() - 1; }

  std::unique_ptr<Transport> transport_;
};

TEST_F(NcclTransfers, PassHiddenStatesDownThePipeline) {
  EXPECT_TRUE(transport_->moves_device_memory());
  int message = 0;
  for (const std::size_t size : {0UL, 1UL, 4097UL, 1'000'000UL, 64UL << 20}) {
    DeviceBytes bytes(size);
    if (is_first()) bytes.write(pattern(size, message));
    if (!is_first()) transport_->recv(bytes.span(), ranks().rank() - 1, Channel::hidden)->wait();
    if (!is_last()) transport_->send(bytes.span(), ranks().rank() + 1, Channel::hidden)->wait();
    EXPECT_TRUE(bytes.read() == pattern(size, message)) << size << " bytes";
    ++message;
  }
}

TEST_F(NcclTransfers, KeepStreamOrder) {
  constexpr std::size_t size = 1 << 20;
  cudaStream_t stream = nullptr;
  ASSERT_EQ(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), cudaSuccess);
  {
    DeviceBytes bytes(size);
    for (int step = 1; step <= 20; ++step) {
      // The fill precedes the send, and the send the next fill, by the stream alone.
      if (is_first()) cudaMemsetAsync(bytes.span().data(), step, size, stream);
      if (!is_first()) transport_->recv_on_stream(bytes.span().data(), size, ranks().rank() - 1, stream);
      if (!is_last()) transport_->send_on_stream(bytes.span().data(), size, ranks().rank() + 1, stream);
      if (is_first()) cudaMemsetAsync(bytes.span().data(), 0, size, stream);
      if (is_last() && !is_first()) {
        std::byte last{};
        cudaMemcpyAsync(&last, bytes.span().data() + size - 1, 1, cudaMemcpyDeviceToHost, stream);
        ASSERT_EQ(cudaStreamSynchronize(stream), cudaSuccess);
        EXPECT_EQ(static_cast<int>(last), step);
      }
    }
    ASSERT_EQ(cudaStreamSynchronize(stream), cudaSuccess);
  }
  cudaStreamDestroy(stream);
}

TEST_F(NcclTransfers, APostedReceiveHoldsUpNeitherSendsNorControl) {
  // Each rank posts the receive of the next round before it sends this round's, and rank 0 starts the next round
  // only when the token is back: with one communicator for all, this would stand still.
  constexpr std::size_t size = 100'000;
  constexpr int num_rounds = 10;
  DeviceBytes in(size), out(size);
  std::unique_ptr<PendingOp> receiving;
  if (!is_first()) receiving = transport_->recv(in.span(), ranks().rank() - 1, Channel::hidden);
  for (int round = 0; round < num_rounds; ++round) {
    if (is_first()) {
      out.write(pattern(size, round));
    } else {
      receiving->wait();
      const auto bytes = in.read();
      EXPECT_TRUE(bytes == pattern(size, round)) << "round " << round;
      out.write(bytes);
      if (round + 1 < num_rounds) receiving = transport_->recv(in.span(), ranks().rank() - 1, Channel::hidden);
    }
    if (!is_last()) transport_->send(out.span(), ranks().rank() + 1, Channel::hidden)->wait();
    if (is_last()) transport_->send_message(std::as_bytes(std::span(&round, 1)), 0, Channel::tokens);
    if (is_first()) {
      const auto token = transport_->recv_message(ranks().size() - 1, Channel::tokens);
      int value = -1;
      std::memcpy(&value, token.data(), std::min(token.size(), sizeof value));
      EXPECT_EQ(value, round);
    }
  }
}

}  // namespace
}  // namespace flexgen::test
