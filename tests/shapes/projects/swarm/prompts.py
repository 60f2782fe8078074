FLIGHTS = "You are a flight assistant. Hand over to the hotel assistant for hotels."
HOTELS = "You are a hotel assistant. Hand over to the flight assistant for flights."
