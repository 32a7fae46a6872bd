// fastlstm: LSTM, GRU and RNN for the CPU. Include this; link fastlstm::core.
#pragma once

#include "fastlstm/buffer.hpp"
#include "fastlstm/cpu.hpp"
#include "fastlstm/export.h"
#include "fastlstm/linear.hpp"
#include "fastlstm/losses.hpp"
#include "fastlstm/model.hpp"
#include "fastlstm/optim.hpp"
#include "fastlstm/probe.hpp"
#include "fastlstm/recurrent.hpp"
#include "fastlstm/static_lstm.hpp"
#include "fastlstm/stream.hpp"
#include "fastlstm/threads.hpp"
#include "fastlstm/trainer.hpp"
#include "fastlstm/training.hpp"
#include "fastlstm/types.hpp"
