"""A network small enough to compute by hand: 3 inputs, 2 hidden units with ReLU, 3 classes, softmax and cross-entropy.

Every number below was worked out on paper; torch's autograd is what is tested against it.
"""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn import functional as F

X = [1.0, 2.0, -1.0]
W1 = [[0.5, 0.25, 1.0], [-1.0, 0.5, 0.5]]
B1 = [1.0, 0.25]
W2 = [[1.0, 2.0], [0.0, -1.0], [2.0, 3.0]]
B2 = [0.0, 1.0, -1.0]
LABEL, RATE = 0, 0.5

# Hidden layer, z = W1 x + b1:
#   z1 = 0.5*1 + 0.25*2 + 1*(-1) + 1     = 0.5 + 0.5 - 1 + 1      =  1
#   z2 = -1*1 + 0.5*2 + 0.5*(-1) + 0.25  = -1 + 1 - 0.5 + 0.25    = -0.25
# ReLU: h = (1, 0); the second unit is off.
Z, HIDDEN = [1.0, -0.25], [1.0, 0.0]
# Logits, W2 h + b2:
#   (1*1 + 2*0 + 0, 0*1 - 1*0 + 1, 2*1 + 3*0 - 1) = (1, 1, 1)
LOGITS = [1.0, 1.0, 1.0]
# Softmax of equal logits: 1/3 each. Cross-entropy for class 0: -ln(1/3) = ln 3.
LOSS = math.log(3.0)
# d loss / d logits = softmax - one-hot = (1/3 - 1, 1/3, 1/3) = (-2/3, 1/3, 1/3)
D_LOGITS = [-2 / 3, 1 / 3, 1 / 3]
# d loss / d W2 = d logits (outer) h, with h = (1, 0): the first column is d logits, the second zero. d b2 = d logits.
D_W2 = [[-2 / 3, 0.0], [1 / 3, 0.0], [1 / 3, 0.0]]
# d loss / d h = W2^T d logits:
#   h1: 1*(-2/3) + 0*(1/3) + 2*(1/3) = 0
#   h2: 2*(-2/3) - 1*(1/3) + 3*(1/3) = -4/3 - 1/3 + 1 = -2/3
# Through the ReLU: the first unit is on but gets 0, the second is off. So nothing at all reaches W1 and b1 ...
D_W1_OFF = [[0.0, 0.0, 0.0], [0.0, 0.0, 0.0]]
# ... which would hide a wrong chain rule. With b1 = (1, 1.25) the second unit is on:
#   z2 = -1*1 + 0.5*2 + 0.5*(-1) + 1.25 = 0.75;  h = (1, 0.75)
#   logits = (1 + 1.5, -0.75 + 1, 2 + 2.25 - 1) = (2.5, 0.25, 3.25)
B1_ON = [1.0, 1.25]
HIDDEN_ON = [1.0, 0.75]
LOGITS_ON = [2.5, 0.25, 3.25]
#   Softmax, dividing by e^3.25: (e^-0.75, e^-3, 1) / (e^-0.75 + e^-3 + 1).
#   e^-0.75 = 0.472366553, e^-3 = 0.049787068, sum = 1.522153621
#   p = (0.310327779, 0.032708307, 0.656963914);  loss = ln 1.522153621 + 0.75 = 0.420126188 + 0.75 = 1.170126188
P_ON = [0.310327779, 0.032708307, 0.656963914]
#   d logits = p - one-hot = (-0.689672221, 0.032708307, 0.656963914)
G = [P_ON[0] - 1.0, P_ON[1], P_ON[2]]
#   d W2 = d logits (outer) (1, 0.75)
D_W2_ON = [[G[0], 0.75 * G[0]], [G[1], 0.75 * G[1]], [G[2], 0.75 * G[2]]]
#   d h1 = 1*(-0.689672221) + 0*0.032708307 + 2*0.656963914 = 0.624255606
#   d h2 = 2*(-0.689672221) - 1*0.032708307 + 3*0.656963914 = 0.558838992
D_H = [0.624255606, 0.558838992]
#   Both units are on, so d z = d h, and d W1 = d z (outer) x with x = (1, 2, -1); d b1 = d z.
D_W1_ON = [[D_H[0], 2 * D_H[0], -D_H[0]], [D_H[1], 2 * D_H[1], -D_H[1]]]
# One step of gradient descent with rate 0.5, W <- W - 0.5 dW. Two entries written out:
#   W1[0][1] = 0.25 - 0.5 * 2 * 0.624255606 = -0.374255606
#   W2[2][0] = 2 - 0.5 * 0.656963914        =  1.671518043


def network(b1: list[float]) -> nn.Sequential:
    model = nn.Sequential(nn.Linear(3, 2), nn.ReLU(), nn.Linear(2, 3)).double()
    with torch.no_grad():
        for parameter, value in zip(model.parameters(), (W1, b1, W2, B2), strict=True):
            parameter.copy_(torch.tensor(value))
    return model


def close(tensor: torch.Tensor | None, values: object, atol: float = 1e-8) -> None:
    assert tensor is not None
    torch.testing.assert_close(tensor.detach(), torch.tensor(values, dtype=torch.float64), atol=atol, rtol=0)


def test_forward_and_gradients_with_a_unit_that_is_off() -> None:
    model, x = network(B1), torch.tensor(X).double()
    hidden = model[0](x)
    close(hidden, Z)
    close(model[1](hidden), HIDDEN)
    logits = model(x)
    logits.retain_grad()
    close(logits, LOGITS)
    loss = F.cross_entropy(logits, torch.tensor(LABEL))
    assert abs(loss.item() - LOSS) < 1e-12
    loss.backward()
    close(logits.grad, D_LOGITS)
    close(model[2].weight.grad, D_W2)
    close(model[2].bias.grad, D_LOGITS)
    close(model[0].weight.grad, D_W1_OFF)
    close(model[0].bias.grad, [0.0, 0.0])


def test_forward_gradients_and_one_step_with_both_units_on() -> None:
    model, x = network(B1_ON), torch.tensor(X).double()
    close(model[1](model[0](x)), HIDDEN_ON)
    logits = model(x)
    close(logits, LOGITS_ON)
    loss = F.cross_entropy(logits, torch.tensor(LABEL))
    assert abs(loss.item() - 1.170126188) < 1e-8
    loss.backward()
    close(model[2].weight.grad, D_W2_ON)
    close(model[2].bias.grad, G)
    close(model[0].weight.grad, D_W1_ON)
    close(model[0].bias.grad, D_H)
    torch.optim.SGD(model.parameters(), lr=RATE).step()
    close(model[0].weight[0, 1], -0.374255606)
    close(model[2].weight[2, 0], 1.671518043)
    close(model[0].bias, [1.0 - 0.5 * D_H[0], 1.25 - 0.5 * D_H[1]])
    after = F.cross_entropy(model(x), torch.tensor(LABEL))
    # Now z1 = 0.187872197*1 - 0.374255606*2 + 1.312127803*(-1) + 0.687872197 = -1.184894621 and
    # z2 = -1.279419496*1 - 0.058838992*2 + 0.779419496*(-1) + 0.970580504 = -1.205936472: both units are off, and
    # the logits are b2 - 0.5 d b2 = (0 + 0.344836110, 1 - 0.016354154, -1 - 0.328481957)
    logits_after = [0.344836110, 0.983645846, -1.328481957]
    close(model(x), logits_after)
    assert abs(after.item() - (math.log(sum(map(math.exp, logits_after))) - logits_after[0])) < 1e-8
    assert after.item() < loss.item()
