// A device that calls itself "cuda" and computes with the processor's own kernels.
//
// Its memory is ordinary memory with another label. For every operator of torch that has a CUDA kernel, one boxed
// function takes that kernel's place: it refuses tensors that lie elsewhere as CUDA refuses them, gives the CPU kernel
// a tensor of the CPU over the same bytes ("twin") for each argument, and labels what comes back. What a program does
// with devices is therefore as on a card - where tensors are, what may be mixed, when the host has to wait - while the
// numbers are the processor's.
//
// Loaded before torch is imported, since torch asks once, at its import, for the hooks that `hooks_are_ours` speaks of.

#include <torch/extension.h>

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/EmptyTensor.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/detail/CUDAHooksInterface.h>
#include <ATen/SDPBackend.h>
#include <ATen/native/transformers/attention.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>
#include <c10/core/impl/alloc_cpu.h>

#include <unistd.h>

#include <array>
#include <atomic>
#include <cstring>
#include <map>
#include <mutex>
#include <unordered_map>
#include <unordered_set>

namespace {

using at::Tensor;
using c10::IValue;
using Stack = torch::jit::Stack;

const c10::Device kHost(c10::DeviceType::CPU);
const c10::Device kCard(c10::DeviceType::CUDA, 0);
const c10::Stream kStream(c10::Stream::DEFAULT, kCard);
constexpr auto kKey = c10::DispatchKey::CUDA;

// ------------------------------------------------------------------------------------------------ who may use it

const pid_t first_process = getpid();
bool used = false;

bool forked_after_use() { return used && getpid() != first_process; }

void must_be_usable() {
  TORCH_CHECK(!forked_after_use(),
      "Cannot re-initialize CUDA in forked subprocess. To use CUDA with multiprocessing, you must use the 'spawn' "
      "start method");
  used = true;
}

// ------------------------------------------------------------------------------------------------ what is counted

std::atomic<int64_t> kernels{0};
py::object* listener = nullptr;  // called as listener(kind, operator); leaked, for Python may be gone before this file

void tell(const char* kind, const std::string& name) {
  if (listener == nullptr) return;
  py::gil_scoped_acquire gil;
  try {
    (*listener)(kind, name);
  } catch (py::error_already_set& error) {
    error.discard_as_unraisable("the listener of the fake CUDA device");
  }
}

// ------------------------------------------------------------------------------------------------ memory

struct Memory {
  std::atomic<int64_t> now{0}, peak{0}, limit{80ll << 30};

  void take(int64_t bytes) {
    const int64_t after = now += bytes;
    if (after > limit) {
      now -= bytes;
      TORCH_CHECK_WITH(OutOfMemoryError, false, "CUDA out of memory. Tried to allocate ", bytes,
          " bytes; GPU 0 has a total capacity of ", limit.load(), " bytes, of which ", limit - now, " are free.");
    }
    for (int64_t before = peak; after > before && !peak.compare_exchange_weak(before, after);) {
    }
  }
  void give(int64_t bytes) { now -= bytes; }
};
Memory memory;

// What a block of the card's memory holds on to: a storage of the host, and how much of it counts as the card's.
struct Lease {
  c10::Storage storage;
  int64_t bytes;
  ~Lease() { memory.give(bytes); }
};

c10::DataPtr label(c10::Storage storage, c10::Device device, int64_t counted) {
  if (counted) memory.take(counted);
  void* data = storage.mutable_data();
  return {data, new Lease{std::move(storage), counted}, [](void* lease) { delete static_cast<Lease*>(lease); }, device};
}

struct CardAllocator final : c10::Allocator {
  c10::DataPtr allocate(size_t bytes) override {
    auto* host = c10::GetAllocator(c10::DeviceType::CPU);
    return label(c10::Storage(c10::Storage::use_byte_size_t(), bytes, host, true), kCard, static_cast<int64_t>(bytes));
  }
  void copy_data(void* to, const void* from, size_t bytes) const override { default_copy_data(to, from, bytes); }
};
CardAllocator card_allocator;

struct PinnedAllocator final : c10::Allocator {
  std::mutex lock;
  std::map<uintptr_t, size_t> blocks;

  c10::DataPtr allocate(size_t bytes) override;
  c10::DeleterFnPtr raw_deleter() const override;
  void copy_data(void* to, const void* from, size_t bytes) const override { default_copy_data(to, from, bytes); }
  bool owns(const void* data) {
    const auto at = reinterpret_cast<uintptr_t>(data);
    std::lock_guard<std::mutex> hold(lock);
    auto next = blocks.upper_bound(at);
    return next != blocks.begin() && at - std::prev(next)->first < std::prev(next)->second;
  }
};
PinnedAllocator pinned_allocator;

void unpin(void* data) {
  {
    std::lock_guard<std::mutex> hold(pinned_allocator.lock);
    pinned_allocator.blocks.erase(reinterpret_cast<uintptr_t>(data));
  }
  c10::free_cpu(data);
}
c10::DataPtr PinnedAllocator::allocate(size_t bytes) {
  bytes = std::max<size_t>(bytes, 1);
  void* data = c10::alloc_cpu(bytes);
  std::lock_guard<std::mutex> hold(lock);
  blocks[reinterpret_cast<uintptr_t>(data)] = bytes;
  return {data, data, &unpin, kHost};
}
c10::DeleterFnPtr PinnedAllocator::raw_deleter() const { return &unpin; }

// ------------------------------------------------------------------------------------------------ random numbers

// A generator of the CPU behind another device's face. Its numbers differ from the CPU's for the same seed, as a card's
// do, so that a draw on the wrong device shows in the figures.
struct CardGenerator final : c10::GeneratorImpl {
  using Head = std::array<uint64_t, 2>;  // what its state begins with: a mark, and the seed
  static constexpr uint64_t kMark = 0xED17AB1EC0DAull, kTwist = 0x9E3779B97F4A7C15ull;
  at::Generator host;
  uint64_t seeded;

  explicit CardGenerator(uint64_t seed)
      : c10::GeneratorImpl(kCard, c10::DispatchKeySet(kKey)), host(at::detail::createCPUGenerator(seed ^ kTwist)),
        seeded(seed) {}
  void set_current_seed(uint64_t seed) override {
    seeded = seed;
    host.set_current_seed(seed ^ kTwist);
  }
  uint64_t current_seed() const override { return seeded; }
  uint64_t seed() override {
    set_current_seed(c10::detail::getNonDeterministicRandom());
    return seeded;
  }
  void set_offset(uint64_t) override {}
  uint64_t get_offset() const override { return 0; }
  c10::intrusive_ptr<c10::TensorImpl> get_state() const override {
    const Head head{kMark, seeded};
    auto first = at::empty({sizeof(Head)}, at::kByte);
    std::memcpy(first.mutable_data_ptr(), head.data(), sizeof(Head));
    return at::cat({first, host.get_state()}).getIntrusivePtr();
  }
  void set_state(const c10::TensorImpl& state) override {
    constexpr int64_t size = sizeof(Head);
    TORCH_CHECK(state.device().is_cpu() && state.numel() > size, "RNG state must be a torch.ByteTensor of this device");
    Head head;
    std::memcpy(head.data(), state.data(), size);
    TORCH_CHECK(head[0] == kMark, "RNG state is wrong size");
    auto rest = at::empty({state.numel() - size}, at::kByte);
    std::memcpy(rest.mutable_data_ptr(), static_cast<const char*>(state.data()) + size, rest.numel());
    seeded = head[1];
    host.set_state(rest);
  }
  CardGenerator* clone_impl() const override {
    auto* copy = new CardGenerator(seeded);
    copy->host = host.clone();
    return copy;
  }
};

const at::Generator& default_generator() {
  static const at::Generator made = at::make_generator<CardGenerator>(c10::default_rng_seed_val);
  return made;
}

at::Generator host_generator(const at::Generator& generator) {
  TORCH_CHECK(generator.device() == kCard,
      "Expected a 'cuda' device type for generator but found '", generator.device().type(), "'");
  return static_cast<CardGenerator*>(generator.unsafeGetGeneratorImpl())->host;
}

// ------------------------------------------------------------------------------------------------ what torch asks for

// One device, one stream, and nothing is ever under way: every event has happened.
struct Guard final : c10::impl::DeviceGuardImplInterface {
  c10::DeviceType type() const override { return kCard.type(); }
  c10::Device exchangeDevice(c10::Device) const override { return kCard; }
  c10::Device getDevice() const override { return kCard; }
  void setDevice(c10::Device device) const override { TORCH_CHECK(device.index() <= 0, "CUDA error: invalid device ordinal"); }
  void uncheckedSetDevice(c10::Device) const noexcept override {}
  c10::DeviceIndex deviceCount() const noexcept override { return 1; }
  c10::Stream getStream(c10::Device) const override { return kStream; }
  c10::Stream getDefaultStream(c10::Device) const override { return kStream; }
  c10::Stream getStreamFromGlobalPool(c10::Device, bool) const override { return kStream; }
  c10::Stream getNewStream(c10::Device, int) const override { return kStream; }
  c10::Stream exchangeStream(c10::Stream stream) const override { return stream; }
  bool queryStream(const c10::Stream&) const override { return true; }
  bool queryEvent(void*) const override { return true; }
  void record(void**, const c10::Stream&, c10::DeviceIndex, c10::EventFlag) const override {}
  void block(void*, const c10::Stream&) const override {}
  void destroyEvent(void*, c10::DeviceIndex) const noexcept override {}
  void synchronizeStream(const c10::Stream&) const override {}
  void synchronizeEvent(void*) const override {}
  void synchronizeDevice(c10::DeviceIndex) const override {}
  void recordDataPtrOnStream(const c10::DataPtr&, const c10::Stream&) const override {}
};

struct Hooks final : at::CUDAHooksInterface {
  bool isBuilt() const override { return true; }
  bool isAvailable() const override { return true; }
  bool hasCUDA() const override { return true; }
  bool hasCUDART() const override { return true; }
  bool hasPrimaryContext(c10::DeviceIndex) const override { return true; }
  void init() const override {}
  int getNumGPUs() const override { return 1; }
  c10::DeviceIndex deviceCount() const override { return 1; }
  c10::DeviceIndex current_device() const override { return 0; }
  c10::DeviceIndex getCurrentDevice() const override { return 0; }
  c10::DeviceIndex exchangeDevice(c10::DeviceIndex) const override { return 0; }
  c10::DeviceIndex maybeExchangeDevice(c10::DeviceIndex) const override { return 0; }
  void setCurrentDevice(c10::DeviceIndex) const override {}
  void deviceSynchronize(c10::DeviceIndex) const override {}
  c10::Device getDeviceFromPtr(void*) const override { return kCard; }
  c10::Allocator* getCUDADeviceAllocator() const override { return &card_allocator; }
  c10::Allocator* getPinnedMemoryAllocator() const override { return &pinned_allocator; }
  bool isPinnedPtr(const void* data) const override { return pinned_allocator.owns(data); }
  const at::Generator& getDefaultGenerator(c10::DeviceIndex) const override { return default_generator(); }
  at::Generator getNewGenerator(c10::DeviceIndex) const override {
    return at::make_generator<CardGenerator>(c10::default_rng_seed_val);
  }
  std::string showConfig() const override { return "fake CUDA"; }
  long versionCUDART() const override { return 13000; }
  long versionCuDNN() const override { return 0; }
};

const bool hooks_registered = [] {
  at::CUDAHooksRegistry()->Register(
      "CUDAHooks",
      [](at::CUDAHooksArgs) -> std::unique_ptr<at::CUDAHooksInterface> { return std::make_unique<Hooks>(); },
      c10::REGISTRY_PREFERRED);
  return true;
}();

// ------------------------------------------------------------------------------------------------ one call of a kernel

bool on_card(const Tensor& tensor) { return tensor.defined() && tensor.device().type() == kCard.type(); }

void strided_only(const Tensor& tensor) {
  TORCH_CHECK_NOT_IMPLEMENTED(tensor.layout() == at::kStrided, "the fake CUDA device has strided tensors only");
}

void same_shape(const Tensor& to, const Tensor& from) {
  to.unsafeGetTensorImpl()->set_sizes_and_strides(from.sizes(), from.strides(), from.storage_offset());
}

// The storages and tensors of one call on both sides, so that what shares memory on one side shares it on the other.
class Crossing {
 public:
  // Return the CPU's twin of a tensor of the card; another tensor as it is.
  Tensor down(const Tensor& tensor) {
    if (!on_card(tensor)) return tensor;
    strided_only(tensor);
    auto& host = host_of_[tensor.storage().unsafeGetStorageImpl()];
    if (!host) {
      host = relabelled(tensor.storage(), kHost, 0);
      card_of_.emplace(host.unsafeGetStorageImpl(), Origin{tensor.storage(), tensor.key_set()});
    }
    auto twin = at::detail::make_tensor<c10::TensorImpl>(
        c10::Storage(host), c10::DispatchKeySet(c10::DispatchKey::CPU), tensor.dtype());
    dress(twin, tensor);
    if (tensor.unsafeGetTensorImpl()->is_wrapped_number()) twin.unsafeGetTensorImpl()->set_wrapped_number(true);
    original_of_.emplace(twin.unsafeGetTensorImpl(), std::make_pair(twin, tensor));
    return twin;
  }

  // Return the card's tensor for what a CPU kernel has returned: the argument itself, a view of one, or a new one.
  Tensor up(const Tensor& tensor) {
    if (!tensor.defined() || !tensor.device().is_cpu()) return tensor;
    if (auto same = original_of_.find(tensor.unsafeGetTensorImpl()); same != original_of_.end())
      return same->second.second;
    strided_only(tensor);
    auto* storage = tensor.storage().unsafeGetStorageImpl();
    Tensor made;
    if (auto known = card_of_.find(storage); known == card_of_.end()) {
      auto card = relabelled(tensor.storage(), kCard, static_cast<int64_t>(tensor.storage().nbytes()));
      made = at::detail::make_tensor<c10::TensorImpl>(std::move(card), c10::DispatchKeySet(kKey), tensor.dtype());
      card_of_.emplace(storage, Origin{made.storage(), made.key_set()});
    } else {  // with the keys of what it is a view of: in inference mode a view of a normal tensor is a normal one
      made = at::detail::make_tensor<c10::TensorImpl>(
          c10::TensorImpl::VIEW, c10::Storage(known->second.storage), known->second.keys, tensor.dtype());
    }
    dress(made, tensor);
    return made;
  }

  // Carry over what an in-place kernel has done to the size, the strides or the memory of a twin.
  void settle() {
    for (auto& [_, pair] : original_of_) {
      auto& [twin, tensor] = pair;
      auto* impl = tensor.unsafeGetTensorImpl();
      const c10::Storage host = twin.storage(), card = tensor.storage();
      auto known = card_of_.find(host.unsafeGetStorageImpl());
      if (known == card_of_.end()) {
        impl->set_storage_keep_dtype(relabelled(host, kCard, static_cast<int64_t>(host.nbytes())));
      } else if (known->second.storage.unsafeGetStorageImpl() != card.unsafeGetStorageImpl()) {
        impl->set_storage_keep_dtype(known->second.storage);
      } else if (host.data() != card.data() || host.nbytes() != card.nbytes()) {  // the twin's memory has grown
        const size_t bytes = host.nbytes();
        c10::Storage grown(c10::Storage::use_byte_size_t(), bytes,
            host.unsafeGetStorageImpl()->set_data_ptr(c10::DataPtr()), c10::GetAllocator(kHost.type()), true);
        card.unsafeGetStorageImpl()->set_data_ptr_noswap(label(std::move(grown), kCard, static_cast<int64_t>(bytes)));
        card.unsafeGetStorageImpl()->set_nbytes(bytes);
      }
      if (impl->sizes() != twin.sizes() || impl->strides() != twin.strides() ||
          impl->storage_offset() != twin.storage_offset())
        same_shape(tensor, twin);
    }
  }

 private:
  struct Origin {
    c10::Storage storage;
    c10::DispatchKeySet keys;
  };

  static c10::Storage relabelled(const c10::Storage& storage, c10::Device device, int64_t counted) {
    c10::Allocator* owner = device.is_cpu() ? c10::GetAllocator(device.type()) : &card_allocator;
    return {c10::Storage::use_byte_size_t(), storage.nbytes(), label(storage, device, counted), owner, true};
  }
  static void dress(Tensor& made, const Tensor& like) {
    same_shape(made, like);
    made._set_conj(like.is_conj());
    made._set_neg(like.is_neg());
  }

  std::unordered_map<c10::StorageImpl*, c10::Storage> host_of_;
  std::unordered_map<c10::StorageImpl*, Origin> card_of_;
  std::unordered_map<c10::TensorImpl*, std::pair<Tensor, Tensor>> original_of_;
};

std::unordered_set<std::string> lenient;  // operators that leave the check of devices to TensorIterator

bool takes_indices_from_host(const std::string& name) {
  for (const char* begin : {"aten::index.", "aten::index_put", "aten::_index_put_impl", "aten::_unsafe_index"})
    if (name.rfind(begin, 0) == 0) return true;
  return false;
}

template <class Visit>
void for_each_tensor(const IValue& value, Visit visit) {
  if (value.isTensor()) {
    visit(value.toTensor());
  } else if (value.isTensorList()) {
    for (const Tensor& tensor : value.toTensorVector()) visit(tensor);
  } else if (value.isOptionalTensorList()) {
    for (const auto& tensor : value.toOptionalTensorVector())
      if (tensor) visit(*tensor);
  }
}

void check_devices(const std::string& name, const std::vector<c10::Argument>& formal, c10::ArrayRef<IValue> actual) {
  const bool strict = !lenient.count(name), indexing = takes_indices_from_host(name);
  for (size_t i = 0; i < actual.size(); ++i) {
    if (indexing && formal[i].name() == "indices") continue;
    for_each_tensor(actual[i], [&](const Tensor& tensor) {
      const bool scalar = !strict && tensor.defined() && tensor.dim() == 0 && !formal[i].is_out();
      TORCH_CHECK(!tensor.defined() || on_card(tensor) || (scalar && tensor.device().is_cpu()),
          "Expected all tensors to be on the same device, but got ", formal[i].name(), " is on ", tensor.device(),
          ", different from other tensors on ", kCard, " (when checking argument in method ", name, ")");
    });
  }
}

// Kernels whose result has a size, or an error, that the host has to know before it can go on.
const std::unordered_set<std::string> waits_always = {
    "aten::_local_scalar_dense", "aten::nonzero", "aten::nonzero.out", "aten::masked_select", "aten::masked_select.out",
    "aten::equal", "aten::_unique", "aten::_unique2", "aten::unique_dim", "aten::unique_consecutive",
    "aten::unique_dim_consecutive", "aten::bincount", "aten::histc", "aten::_linalg_svd", "aten::_linalg_svd.U",
    "aten::linalg_svd.U", "aten::_linalg_eigh", "aten::_linalg_eigh.eigenvalues", "aten::linalg_eig",
    "aten::linalg_eig.out", "aten::_linalg_eigvals", "aten::linalg_lstsq", "aten::linalg_lstsq.out",
    "aten::_linalg_check_errors"};

void count(const std::string& name, const std::vector<c10::Argument>& formal, c10::ArrayRef<IValue> actual) {
  ++kernels;
  if (listener == nullptr) return;
  bool waits = waits_always.count(name) || (name == "aten::repeat_interleave.Tensor" && actual[1].isNone());
  for (size_t i = 0; i < actual.size(); ++i) {
    if (formal[i].name() != "indices") continue;
    for_each_tensor(actual[i], [&](const Tensor& index) {
      if (!index.defined()) return;
      if (index.device().is_cpu()) tell("pageable copy", name);
      waits |= index.scalar_type() == at::kBool || index.scalar_type() == at::kByte;
    });
  }
  if (waits) tell("wait", name);
}

void any_kernel(const c10::OperatorHandle& op, c10::DispatchKeySet, Stack* stack) {
  must_be_usable();
  const auto& schema = op.schema();
  const auto& formal = schema.arguments();
  const auto& title = op.operator_name();
  const std::string name = title.overload_name.empty() ? title.name : title.name + "." + title.overload_name;
  const size_t first = stack->size() - formal.size();
  const c10::ArrayRef<IValue> actual(stack->data() + first, formal.size());
  check_devices(name, formal, actual);
  count(name, formal, actual);

  Crossing crossing;
  for (size_t i = 0; i < formal.size(); ++i) {
    IValue& value = (*stack)[first + i];
    if (value.isTensor()) {
      value = crossing.down(value.toTensor());
    } else if (value.isTensorList()) {
      c10::List<Tensor> twins;
      for (const Tensor& tensor : value.toTensorVector()) twins.push_back(crossing.down(tensor));
      value = std::move(twins);
    } else if (value.isOptionalTensorList()) {
      c10::List<std::optional<Tensor>> twins;
      for (const auto& tensor : value.toOptionalTensorVector())
        twins.push_back(tensor ? std::optional<Tensor>(crossing.down(*tensor)) : std::nullopt);
      value = std::move(twins);
    } else if (value.isDevice()) {
      if (value.toDevice().type() == kCard.type()) value = kHost;
    } else if (value.isGenerator()) {
      value = host_generator(value.toGenerator());
    } else if (value.isNone()) {
      const auto optional = formal[i].type()->cast<c10::OptionalType>();
      if (optional && optional->getElementType()->kind() == c10::TypeKind::GeneratorType)
        value = host_generator(default_generator());
    }
  }
  {
    at::AutoDispatchBelowADInplaceOrView kernel_only;
    op.redispatchBoxed(c10::DispatchKeySet(c10::DispatchKey::CPU), stack);
  }
  if (schema.is_mutable()) crossing.settle();
  for (size_t i = stack->size() - schema.returns().size(); i < stack->size(); ++i) {
    IValue& value = (*stack)[i];
    if (value.isTensor()) {
      value = crossing.up(value.toTensor());
    } else if (value.isTensorList()) {
      c10::List<Tensor> lifted;
      for (const Tensor& tensor : value.toTensorVector()) lifted.push_back(crossing.up(tensor));
      value = std::move(lifted);
    }
  }
}

// ------------------------------------------------------------------------------------------------ memory's own kernels

Tensor empty(at::IntArrayRef size, std::optional<at::ScalarType> dtype, std::optional<at::Layout>,
    std::optional<at::Device>, std::optional<bool>, std::optional<at::MemoryFormat> format) {
  must_be_usable();
  return at::detail::empty_generic(
      size, &card_allocator, c10::DispatchKeySet(kKey), c10::dtype_or_default(dtype), format);
}

Tensor empty_strided(at::IntArrayRef size, at::IntArrayRef stride, std::optional<at::ScalarType> dtype,
    std::optional<at::Layout>, std::optional<at::Device>, std::optional<bool>) {
  must_be_usable();
  return at::detail::empty_strided_generic(
      size, stride, &card_allocator, c10::DispatchKeySet(kKey), c10::dtype_or_default(dtype));
}

// A copy off the card waits for it, and one from memory that isn't pinned waits for the copy before it.
void count_copy(const Tensor& to, const Tensor& from, bool non_blocking) {
  if (on_card(to) && on_card(from)) {
    ++kernels;
  } else if (on_card(from)) {
    tell(non_blocking && to.is_pinned() ? "copy" : "wait", "copy to the host");
  } else if (from.is_pinned()) {
    tell(non_blocking ? "copy" : "wait", "copy from pinned memory");
  } else {
    tell("pageable copy", "copy from the host");
  }
}

Tensor& copy_(Tensor& self, const Tensor& source, bool non_blocking) {
  must_be_usable();
  count_copy(self, source, non_blocking);
  Crossing crossing;
  at::AutoDispatchBelowADInplaceOrView kernel_only;
  crossing.down(self).copy_(crossing.down(source));
  return self;
}

Tensor copy_from(const Tensor& source, const Tensor& target, bool non_blocking) {
  Tensor to = target;
  return copy_(to, source, non_blocking);
}

Tensor copy_from_and_resize(const Tensor& source, const Tensor& target) {
  target.resize_(source.sizes());
  return copy_from(source, target, false);
}

Tensor& set_storage(Tensor& self, at::Storage source, int64_t offset, at::IntArrayRef size, at::IntArrayRef stride) {
  TORCH_CHECK(source.device().type() == kCard.type(), "Attempted to set the storage of a tensor on device \"",
      self.device(), "\" to a storage on different device \"", source.device(), "\".");
  auto* impl = self.unsafeGetTensorImpl();
  impl->set_storage_keep_dtype(std::move(source));
  if (stride.data() == nullptr || (stride.empty() && !size.empty())) {
    impl->set_storage_offset(offset);
    impl->set_sizes_contiguous(size);
  } else {
    impl->set_sizes_and_strides(size, stride, offset);
  }
  auto* storage = self.storage().unsafeGetStorageImpl();
  const size_t needed = at::detail::computeStorageNbytes(impl->sizes(), impl->strides(), self.itemsize(), offset);
  if (needed > storage->nbytes()) {
    auto grown = card_allocator.allocate(needed);
    if (storage->nbytes()) std::memcpy(grown.get(), storage->data(), storage->nbytes());
    storage->set_data_ptr_noswap(std::move(grown));
    storage->set_nbytes(needed);
  }
  return self;
}

Tensor& set_whole_storage(Tensor& self, at::Storage source) {
  const auto count = static_cast<int64_t>(source.nbytes() / self.itemsize());
  return set_storage(self, std::move(source), 0, {count}, {});
}

Tensor& set_tensor(Tensor& self, const Tensor& source) {
  return set_storage(self, source.storage(), source.storage_offset(), source.sizes(), source.strides());
}

Tensor& set_nothing(Tensor& self) {
  return set_storage(self, c10::Storage(c10::Storage::use_byte_size_t(), 0, &card_allocator, true), 0, {0}, {});
}

void record_stream(Tensor&, at::Stream) {}

int64_t attention_by_matrix_products(const Tensor&, const Tensor&, const Tensor&, const std::optional<Tensor>&, double,
    bool, std::optional<double>, bool) {
  return static_cast<int64_t>(at::SDPBackend::math);
}

// ------------------------------------------------------------------------------------------------ switching it on

void switch_on(const std::vector<std::string>& operators, const std::vector<std::string>& left_to_iterator) {
  static std::vector<torch::Library> kept;  // an operator's kernel goes with its library
  lenient.insert(left_to_iterator.begin(), left_to_iterator.end());
  c10::SetAllocator(kCard.type(), &card_allocator, 255);
  c10::impl::registerDeviceGuard(kCard.type(), new Guard());
  at::native::_fused_sdp_choice_stub.set_cuda_dispatch_ptr(&attention_by_matrix_products);
  auto& library = kept.emplace_back(torch::Library::IMPL, "aten", kKey, __FILE__, __LINE__);
  library.impl("empty.memory_format", &empty);
  library.impl("empty_strided", &empty_strided);
  library.impl("copy_", &copy_);
  library.impl("_copy_from", &copy_from);
  library.impl("_copy_from_and_resize", &copy_from_and_resize);
  library.impl("set_.source_Storage_storage_offset", &set_storage);
  library.impl("set_.source_Storage", &set_whole_storage);
  library.impl("set_.source_Tensor", &set_tensor);
  library.impl("set_", &set_nothing);
  library.impl("record_stream", &record_stream);
  static const std::unordered_set<std::string> done = {"empty.memory_format", "empty_strided", "copy_", "_copy_from",
      "_copy_from_and_resize", "set_.source_Storage_storage_offset", "set_.source_Storage", "set_.source_Tensor", "set_",
      "record_stream"};
  for (const auto& name : operators)
    if (!done.count(name)) library.impl(name.c_str(), torch::CppFunction::makeFromBoxedFunction<&any_kernel>());
}

void listen(const py::object& function) {
  auto* before = listener;
  listener = function.is_none() ? nullptr : new py::object(function);
  delete before;
}

}  // namespace

PYBIND11_MODULE(TORCH_EXTENSION_NAME, module) {
  module.def("switch_on", &switch_on);
  module.def("hooks_are_ours", [] { return dynamic_cast<const Hooks*>(&at::detail::getCUDAHooks()) != nullptr; });
  module.def("default_generator", [] { return default_generator(); });
  module.def("forked_after_use", &forked_after_use);
  module.def("memory_now", [] { return memory.now.load(); });
  module.def("memory_peak", [] { return memory.peak.load(); });
  module.def("memory_total", [] { return memory.limit.load(); });
  module.def("forget_peak", [] { memory.peak = memory.now.load(); });
  module.def("limit_memory", [](int64_t bytes) { memory.limit = bytes; });
  module.def("kernels", [] { return kernels.load(); });
  module.def("listen", &listen);
}
