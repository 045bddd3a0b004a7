"""What to say of a file of tensors that torch.load refuses."""


def reason(error: Exception) -> str:
    """The first line of an error, without torch's advice to load such a file with its code."""
    text = str(error).strip()
    if "weights_only" in text:
        return "it holds something else than tensors, or is damaged"
    return text.splitlines()[0] if text else type(error).__name__
